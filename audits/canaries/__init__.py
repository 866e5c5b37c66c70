"""Canaries by fair coins: kinds, planting, and the audit of a run trained with them."""
