"""The run folder: its files, checkpoints, summary, statement and picture, and the way back."""
