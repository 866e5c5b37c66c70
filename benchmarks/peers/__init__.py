"""Other libraries, as the benchmark runs them."""
