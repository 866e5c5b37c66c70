"""The exactly rounded Gaussian: integers round(N(0, s²)), each with exactly its probability.

A word of 64 random bits is a sign and the first 63 binary digits of a uniform tail probability
t, so that |z| = Φ⁻¹(1 − t/2) is one real normal draw, known to an interval. The interval is
computed in float64 with a certified error. Where it lies between two rounding boundaries the
integer is known; where it holds one, boundary and digits are compared in mpmath, and more
digits are drawn until they differ. So the float64 arithmetic decides how fast a draw is, and
never what it is. The argument is in docs/noise.md.

Source: interval refining, Haney et al. 2022 (arXiv 2207.13793).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Words = Callable[[int], NDArray[np.uint64]]

ERROR = 2.0**-46
"""What |z| computed in float64 may be off, relatively to 1 + |z|. In units of 2⁻⁵³ this is 128,
where below 49 is certified and 3.1 was measured (benchmarks/noise/noise_quantile.py)."""
BLOCK = 2**14
"""Draws that are worked on at a time: few enough to stay in cache."""
SPARE = 64
"""Bits by which mpmath is more precise than the digits that it decides on."""


def rounded_gaussian(
    words: Words, count: int, scale: float, *, bits: int = 64, threads: int = 1
) -> NDArray[np.int64]:
    """`count` independent integers round(N(0, scale²)).

    P(k) = Φ((k + ½)/scale) − Φ((k − ½)/scale)

    Args:
        words: gives independent words of 64 uniform bits.
        scale: from 1 to 2⁴⁸, so that no draw of float64's range passes 2⁶³.
        bits: how many of a word's leading bits are used; fewer than 64 are for tests.
        threads: how many work at a time. Words are asked for in one order, by the caller's.

    Errors: `ValueError` for a scale out of range.
    """
    if not 1.0 <= scale <= 2.0**48:
        raise ValueError(f"a rounded Gaussian needs a scale from 1 to 2⁴⁸, got {scale}")
    integers = np.empty(count, dtype=np.int64)
    blocks = [integers[at : at + BLOCK] for at in range(0, count, BLOCK)]

    def filled() -> Iterator[NDArray[np.int64]]:
        for block in blocks:
            np.right_shift(words(len(block)).view(np.int64), 64 - bits, out=block)
            yield block

    rounded = partial(_rounded, scale=scale, bits=bits)
    with ThreadPoolExecutor(threads) as pool:  # starts none before it is given work
        found = list((map if threads == 1 else pool.map)(rounded, filled()))
    for block, doubtful in zip(blocks, found, strict=True):
        for i, drawn in doubtful:
            sign = drawn >> 63
            block[i] = (_decided(drawn ^ sign, bits, scale, words) ^ sign) - sign
    return integers


def _rounded(block: NDArray[np.int64], scale: float, bits: int) -> list[tuple[int, int]]:
    """Words to integers, in place; where float64 cannot tell, which ones and their words."""
    sign = block >> 63  # 0 or −1
    whole, doubtful = _magnitudes(block ^ sign, scale, bits)  # t/2: from 0 to 2^(bits − 1) − 1
    found = [(int(i), int(block[i])) for i in np.flatnonzero(doubtful)]
    np.subtract(whole ^ sign, sign, out=block)
    return found


def _magnitudes(
    digits: NDArray[np.int64], scale: float, bits: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """|k| of each draw in float64, and whether it may be another: near a rounding boundary.

    With y = scale·|z| + ½ the integer is ⌊y⌋. The midpoint of the interval of t/2 is used; the
    ends are within a share h = 1/(2·digits + 1) of it, which moves |z| by less than 2h.
    """
    p = digits.astype(np.float64)
    p += 0.5
    p *= 2.0**-bits
    y: NDArray[np.float64] = ndtri(p)
    y *= -scale
    y += 0.5
    whole = np.floor(y)
    margin = np.divide(scale * 2.0**-bits, p, out=p)
    margin += ERROR * scale
    from_middle = y - whole
    from_middle -= 0.5
    y *= ERROR
    margin += y
    np.abs(from_middle, out=from_middle)
    margin += from_middle
    return whole.astype(np.int64), margin >= 0.5


def _decided(digits: int, bits: int, scale: float, words: Words) -> int:
    """|k| of the draw whose t/2 lies in [digits, digits + 1] · 2^−bits, drawing more digits
    while a boundary lies there."""
    used = bits
    while True:
        middle = (2 * digits + 1) / 2 ** (used + 1)
        guess = math.floor(-float(ndtri(middle)) * scale + 0.5)
        for k in (guess, guess - 1, guess + 1):
            if _tail(k + 1, scale, used)[1] <= digits < _tail(k, scale, used)[0]:
                return k
        digits = (digits << bits) + (int(words(1)[0]) >> (64 - bits))
        used += bits


def _tail(k: int, scale: float, bits: int) -> tuple[int, int]:
    """2^bits · P(N(0, scale²) ≥ k − ½), rounded down and up."""
    import mpmath  # slow to load, and needed about once in 10⁵ draws

    with mpmath.workprec(bits + SPARE):
        tail = mpmath.erfc((2 * k - 1) / (mpmath.sqrt(8) * mpmath.mpf(scale))) / 2
        scaled, slack = mpmath.ldexp(tail, bits), mpmath.mpf(2) ** (-SPARE // 2)
        return int(mpmath.floor(scaled - slack)), int(mpmath.ceil(scaled + slack))
