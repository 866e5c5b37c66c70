"""Words of the noise's sampler against mpmath: half of them random, half beside a boundary.

    python -m benchmarks.noise.noise_words [--words 1000000] [--seed 0]

The boundaries above and below a random word's integer are computed with mpmath at 256 bits, and
the word must lie between them. A word beside a boundary is the last that ends below it, or the
first that begins above it: 2⁻⁶⁴ of probability away, where float64 cannot tell.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, field

import mpmath
import numpy as np
from dpigu.dpcore.noise import NoiseSource, ReproducibleNoise, rounded_gaussian
from numpy.typing import NDArray

PRECISE = 256
PIECE = 1000
TOP = 2**64 - 1


@dataclass
class Found:
    """What a comparison found: the words whose integer is wrong, and how many were compared."""

    wrong: list[int] = field(default_factory=list)
    random: int = 0
    beside: int = 0


class Given:
    """A source of these words; a single one that is asked for later is a further digit."""

    private = False

    def __init__(self, words: list[int]) -> None:
        self._words = np.array(words, dtype=np.uint64)

    def words(self, count: int) -> NDArray[np.uint64]:
        if count == len(self._words):
            return self._words
        return np.array([0x5A5A5A5A5A5A5A5A], dtype=np.uint64)


def edge(k: int, scale: float) -> int:
    """The whole part of 2⁶⁴ · P(N(0, scale²) ≥ k − ½); there is always a remainder."""
    with mpmath.workprec(PRECISE):
        x = (2 * k - 1) / (mpmath.sqrt(8) * mpmath.mpf(scale))
        return int(mpmath.floor(mpmath.ldexp(mpmath.erfc(x) / 2, 64)))


def integers(words: list[int], scale: float) -> list[int]:
    """What the sampler makes of these words."""
    drawn: list[int] = rounded_gaussian(Given(words).words, len(words), scale).tolist()
    return drawn


def disagreements(source: NoiseSource, count: int, scale: float) -> Found:
    """Compare the integers of count/2 random words and of as many words beside boundaries."""
    found, beside, expected = Found(), [], []
    random: list[int] = source.words(count // 2).tolist()
    for word, k in zip(random, integers(random, scale), strict=True):
        sign = 1 if word <= TOP // 2 else -1
        digits, size = (word if sign > 0 else TOP - word), sign * k
        low, high = edge(size + 1, scale), edge(size, scale)
        if not low <= digits <= high:  # at low and high the word holds the boundary itself
            found.wrong.append(word)
        at, above = (high, size - 1) if word % 2 and size > 0 else (low, size)
        near, integer = (at - 1, above + 1) if word % 4 < 2 else (at + 1, above)
        beside.append(near if sign > 0 else TOP - near)
        expected.append(sign * integer)
    got = integers(beside, scale)
    found.wrong += [w for w, k, want in zip(beside, got, expected, strict=True) if k != want]
    found.random, found.beside = len(random), len(beside)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    source, began = ReproducibleNoise(given.seed), time.perf_counter()
    total = Found()
    for piece in range(math.ceil(given.words / PIECE)):
        found = disagreements(source, PIECE, 2.0 ** (26 + piece % 9 / 8))
        total.wrong += found.wrong
        total.random += found.random
        total.beside += found.beside
    print(
        f"{total.random} random words, {total.beside} beside a boundary, {len(total.wrong)} wrong"
    )
    print(f"{time.perf_counter() - began:.0f} s; scales 2^26 to 2^27; seed {given.seed}")


if __name__ == "__main__":
    main()
