"""Clippers, from a record's norms to its factors, and the queries noised beside them."""

from dpigu.mechanisms.clippers.flat import Flat, Unclipped
from dpigu.mechanisms.clippers.group_quantile import GroupQuantile
from dpigu.mechanisms.clippers.least_error import LeastError
from dpigu.mechanisms.clippers.per_group import PerGroup
from dpigu.mechanisms.clippers.quantile import Quantile
from dpigu.mechanisms.clippers.queries import ClippedCount, GroupCounts, NormHistogram
from dpigu.mechanisms.clippers.scaled import Automatic, Normalised

__all__ = [
    "Automatic",
    "ClippedCount",
    "Flat",
    "GroupCounts",
    "GroupQuantile",
    "LeastError",
    "NormHistogram",
    "Normalised",
    "PerGroup",
    "Quantile",
    "Unclipped",
]
