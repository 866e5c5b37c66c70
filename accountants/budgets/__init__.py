"""One (ε, δ) over all runs on a data set: filters that admit runs, and the file that holds them."""
