"""The audit of a mechanism: its own kernel on neighbouring batches, without training."""
