"""Rényi accounting: divergences of a sampled Gaussian at all orders, and ε from them."""
