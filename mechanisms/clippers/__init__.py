"""Clippers, from a record's norms to its factors, and the queries noised beside them."""
