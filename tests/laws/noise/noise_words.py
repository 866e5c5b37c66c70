"""Words of chosen noise, and what any word must give: in mpmath, and by no path of the sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

PRECISE = 400
"""Bits of mpmath's numbers here: more than any word has, twice."""


def word_of(z: float) -> int:
    """A word whose real normal draw is z, to a share of 2⁻⁵⁰."""
    digits = int(ndtr(-abs(z)) * 2.0**64)
    return digits if z > 0 else 2**64 - 1 - digits


def real_of(word: int, bits: int = 64) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The interval of real normal draws that a word of so many bits leaves, from low to high."""
    positive = word < 2 ** (bits - 1)
    digits = word if positive else 2**bits - 1 - word
    with mpmath.workprec(PRECISE):
        far, near = (quantile(d, bits) for d in (digits, digits + 1))
        return (near, far) if positive else (-far, -near)


@cache
def quantile(digits: int, bits: int) -> mpmath.mpf:
    """z with P(N(0, 1) ≥ z) = digits · 2^−bits, by Newton's method on the logarithm."""
    if digits == 0:
        return mpmath.inf
    with mpmath.workprec(PRECISE):
        p = mpmath.ldexp(mpmath.mpf(digits), -bits)
        z = mpmath.sqrt(-2 * mpmath.log(2 * p)) if 2 * p < 1 else mpmath.mpf(0)
        for _ in range(100):
            tail = mpmath.erfc(z / mpmath.sqrt(2)) / 2
            density = mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)
            step = mpmath.log(tail / p) * tail / density
            z += step
            if abs(step) < mpmath.ldexp(mpmath.mpf(1), -PRECISE // 2):
                return z
    raise AssertionError("Newton's method did not end")


def integer_of(word: int, scale: float, bits: int = 64) -> int | None:
    """round(z · scale) of a word; None if its digits leave two integers open."""
    with mpmath.workprec(PRECISE):
        low, high = (mpmath.floor(z * mpmath.mpf(scale) + 0.5) for z in real_of(word, bits))
        return int(low) if low == high else None


class Words:
    """A source that gives chosen words, in order; for tests, and the same to anybody."""

    private = False

    def __init__(self, words: Sequence[int]) -> None:
        self.left = list(words)

    def words(self, count: int) -> NDArray[np.uint64]:
        given, self.left = self.left[:count], self.left[count:]
        assert len(given) == count, "more words are drawn than there are"
        return np.array(given, dtype=np.uint64)


class Rising:
    """Noise of 1, 2, 3 and so on up to `largest` deviations, and again; for every vector."""

    private = False

    def __init__(self, largest: int = 5) -> None:
        self.sizes: list[int] = []
        self.z = [1.0 + i % largest for i in range(2**10)]

    def words(self, count: int) -> NDArray[np.uint64]:
        self.sizes.append(count)
        return np.array([word_of(z) for z in self.z[:count]], dtype=np.uint64)


def with_ones(
    law: str, sum_K: Tensor, sensitivity: float, multiplier: float
) -> tuple[Tensor, float]:
    """What a law makes of a sum with the words of `Ones`, and its standard deviation.

    gaussian: g · (round(Σ/g) + round(s/g)), s = σ(Δ + g√K), with g the power of two 26 to 27
    bits below σΔ, computed in fractions and mpmath. gaussian-float: NumPy's draws under the key
    that two words make.
    """
    std = multiplier * sensitivity
    if law == "gaussian-float":
        draws = np.random.Generator(np.random.Philox(key=Ones().words(2)))
        return sum_K + std * torch.from_numpy(draws.standard_normal(len(sum_K))), std
    assert law == "gaussian"
    grid = Fraction(2) ** (math.frexp(std)[1] - 27)
    std = multiplier * (sensitivity + float(grid) * math.sqrt(len(sum_K))) * (1 + 2.0**-50)
    drawn = integer_of(word_of(1.0), std / float(grid))
    assert drawn is not None
    steps = [round(Fraction(x) / grid) + drawn for x in sum_K.tolist()]
    return torch.tensor([float(grid * n) for n in steps], dtype=torch.float64), std


class Ones(Rising):
    """Noise of one deviation on every coordinate, so that its scale can be read off."""

    def __init__(self) -> None:
        super().__init__(1)
