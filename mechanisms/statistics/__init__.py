"""Rows that are not gradients: channel moments, changes of loss, training accuracy."""

from dpigu.mechanisms.statistics.accuracy import Correctness, training_accuracy
from dpigu.mechanisms.statistics.moments import ChannelMoments
from dpigu.mechanisms.statistics.selective_update import LossChange, Threshold

__all__ = [
    "ChannelMoments",
    "Correctness",
    "LossChange",
    "Threshold",
    "training_accuracy",
]
