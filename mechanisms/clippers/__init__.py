"""Clippers, from a record's norms to its factors, and the queries noised beside them."""

from dpigu.mechanisms.clippers.flat import Flat, Unclipped
from dpigu.mechanisms.clippers.per_group import PerGroup
from dpigu.mechanisms.clippers.quantile import Quantile
from dpigu.mechanisms.clippers.queries import ClippedCount
from dpigu.mechanisms.clippers.scaled import Automatic, Normalised

__all__ = [
    "Automatic",
    "ClippedCount",
    "Flat",
    "Normalised",
    "PerGroup",
    "Quantile",
    "Unclipped",
]
