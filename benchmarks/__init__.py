"""How long a training step takes, ours beside others' (`python -m benchmarks.step --help`)."""
