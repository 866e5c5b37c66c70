"""Rows that are not gradients: channel moments, and the loss change of a selective update."""
