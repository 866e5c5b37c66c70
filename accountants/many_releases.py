"""Many different releases composed: distributions of the loss as plain arrays, in pairs, by FFT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

Reals = NDArray[np.float64]

TAIL = 1e-15
"""Mass that a composition may move upwards at its ends: dp-accounting's own."""


class Losses(NamedTuple):
    """A distribution of the privacy loss on multiples of a cell.

    Args:
        lowest: the first loss, in cells.
        masses: of that one and the next ones.
        infinite: the mass at ∞.
    """

    lowest: int
    masses: Reals
    infinite: float


def composed(parts: Sequence[tuple[Losses, int]]) -> Losses:
    """Every part as often as it says, one after the other: their convolution, never below it.

    In pairs, so that most of the convolutions are short.
    """
    left = [_repeated(one, count) for one, count in parts]
    while len(left) > 1:
        odd = left[len(left) // 2 * 2 :]
        left = [_both(a, b) for a, b in zip(left[::2], left[1::2], strict=False)] + odd
    return left[0]


def _repeated(one: Losses, count: int) -> Losses:
    """By squaring."""
    if count == 1:
        return one
    half = _repeated(one, count // 2)
    twice = _both(half, half)
    return _both(twice, one) if count % 2 else twice


def _both(a: Losses, b: Losses) -> Losses:
    masses = fftconvolve(a.masses, b.masses)
    start = _prefix(masses)
    end = max(len(masses) - _prefix(masses[::-1]), start + 1)
    kept = masses[start:end].copy()
    kept[0] += math.fsum(masses[:start])
    infinite = a.infinite + b.infinite - a.infinite * b.infinite + math.fsum(masses[end:])
    return Losses(a.lowest + b.lowest + start, kept, infinite)


def _prefix(masses: Reals) -> int:
    """How many of the first masses are together at most half of TAIL."""
    return int(np.argmax(np.cumsum(masses) > TAIL / 2))
