"""Rows that are not gradients: channel moments, and the loss change of a selective update."""

from dpigu.mechanisms.statistics.moments import ChannelMoments
from dpigu.mechanisms.statistics.selective_update import LossChange, Threshold

__all__ = [
    "ChannelMoments",
    "LossChange",
    "Threshold",
]
