"""Benchmarks of the audits: their level and their power."""
