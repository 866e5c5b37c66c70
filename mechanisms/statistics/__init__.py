"""Rows that are not gradients: channel moments, changes of loss, training accuracy."""

from dpigu.mechanisms.statistics.accuracy import Correctness, training_accuracy
from dpigu.mechanisms.statistics.moments import ChannelMoments
from dpigu.mechanisms.statistics.selective_update import LossChange, Threshold
from dpigu.mechanisms.statistics.two_points import TwoPoints
from dpigu.mechanisms.statistics.zeroth_order import ZerothOrder

__all__ = [
    "ChannelMoments",
    "Correctness",
    "LossChange",
    "Threshold",
    "TwoPoints",
    "ZerothOrder",
    "training_accuracy",
]
