"""The command `dpigu train`: its options, its canaries, and what it says."""
