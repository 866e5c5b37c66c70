"""Benchmarks of the noise: its words against many digits."""
