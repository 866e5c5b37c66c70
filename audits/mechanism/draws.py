"""Tests of draws that are said to be Gaussian noise: how wide, how shaped, how fine, how apart.

Each p-value is valid by itself where the noise is what is claimed: independent on every coordinate
and step, N(0, std²) rounded to a grid far below std. They know nothing of kernels.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from dpigu.audits.statistics import Reals
from dpigu.dpcore.noise.laws import GRID_BITS, grid_of
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binom, chi2, kstest, poisson

LOW_BITS = 4
TAILS = (3.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class NoiseTest:
    """One test of some draws, with its p-value, not divided."""

    name: str
    where: str
    found: str
    p_value: float


@dataclass(frozen=True)
class Draws:
    """The noise of T releases of a vector of K coordinates.

    Args:
        where: of which release, in words.
        noise_TK: what was drawn; `live_TK` says on which coordinates noise was due.
        claimed_T: σC, the deviation that is charged.
        std_T: the deviation that is declared, a little above it; at least `claimed_T`.
        multiplier: σ.
        lattice: whether the law promises whole multiples of a grid.
        grid: whether the grid is known: what a factorisation decodes lies on several.
    """

    where: str
    noise_TK: Reals
    live_TK: NDArray[np.bool_]
    claimed_T: Reals
    std_T: Reals
    multiplier: float
    lattice: bool
    grid: bool


def noise_tests(draws: Draws) -> Iterator[NoiseTest]:
    """Every test of some draws."""
    if not draws.live_TK.any():
        return
    finite_TK = np.isfinite(draws.noise_TK)
    bad = int((draws.live_TK & ~finite_TK).sum())
    yield _test(draws, "draws that are no numbers", f"{bad}", 0.0 if bad else 1.0)
    noise_TK = np.where(finite_TK & draws.live_TK, draws.noise_TK, 0.0)
    z_TK = noise_TK / draws.std_T[:, None]
    yield from _spread(draws, noise_TK / draws.claimed_T[:, None])
    yield from _shape(draws, z_TK[draws.live_TK])
    yield from _apart(draws, z_TK)
    if draws.grid:
        yield from _fineness(draws, noise_TK)


def _spread(draws: Draws, z_TK: Reals) -> Iterator[NoiseTest]:
    """Σ z² is χ²: too small a sum is too little noise, in all, at a step, on a coordinate, or in
    the direction of equal entries."""
    square_TK, live_TK = z_TK**2, draws.live_TK
    for what, axis in (("all draws", None), ("the step", 1), ("the coordinate", 0)):
        total, count = np.atleast_1d(square_TK.sum(axis)), np.atleast_1d(live_TK.sum(axis))
        at = np.flatnonzero(count)
        p = chi2.cdf(total[at], count[at])
        least = at[int(p.argmin())]
        found = f"{math.sqrt(float(total[least] / count[least])):.4g} of what is claimed"
        name = f"the spread of {what}"
        if axis is not None:
            name, found = f"{what} with the least noise", f"{found}, number {least}"
        yield _test(draws, name, found, len(at) * float(p.min()))
    count_T = live_TK.sum(1)
    mean_T = z_TK.sum(1)[count_T > 0] / np.sqrt(count_T[count_T > 0])
    found = f"{math.sqrt(float((mean_T**2).mean())):.4g} of what is claimed"
    yield _test(
        draws, "the spread of the mean", found, float(chi2.cdf((mean_T**2).sum(), len(mean_T)))
    )


def _shape(draws: Draws, z_n: Reals) -> Iterator[NoiseTest]:
    """The distribution function, and how many draws lie far out."""
    p_value = float(kstest(z_n, "norm").pvalue)
    yield _test(draws, "the shape of the draws", "by Kolmogorov and Smirnov", p_value)
    for far in TAILS:
        beyond, share = int((np.abs(z_n) > far).sum()), math.erfc(far / math.sqrt(2))
        found = f"{beyond}, where chance gives {len(z_n) * share:.1f}"
        p_value = _two_sided(beyond, len(z_n), share)
        yield _test(draws, f"draws beyond {far:g} deviations", found, p_value)


def _apart(draws: Draws, z_TK: Reals) -> Iterator[NoiseTest]:
    """Steps, and coordinates of one step, are independent.

    Given z_t, ⟨z_t, z_u⟩/‖z_t‖ is standard normal for any later step u: every pair is looked at.
    Likewise of the halves of a step's coordinates, and of neighbours.
    """
    steps, size = z_TK.shape
    if steps > 1:
        norm_TT = np.sqrt((z_TK**2) @ draws.live_TK.T.astype(float))
        with np.errstate(divide="ignore", invalid="ignore"):
            score_TT = np.triu((z_TK @ z_TK.T) / norm_TT, k=1)
        score_TT = np.abs(np.nan_to_num(score_TT, nan=0.0, posinf=0.0, neginf=0.0))
        t, u = np.unravel_index(int(score_TT.argmax()), score_TT.shape)
        found = f"steps {t} and {u} of those looked at, {score_TT[t, u]:.3g} deviations"
        p_value = steps * (steps - 1) / 2 * 2 * float(ndtr(-score_TT[t, u]))
        yield _test(draws, "the steps that are most alike", found, p_value)
    half = size // 2
    pairs = {
        "neighbouring coordinates": (slice(0, 2 * half, 2), slice(1, 2 * half, 2)),
        "the halves of the coordinates": (slice(0, half), slice(half, 2 * half)),
    }
    for name, (one, other) in pairs.items():
        both_TK = draws.live_TK[:, one] & draws.live_TK[:, other]
        a_TK, b_TK = (np.where(both_TK, z_TK[:, part], 0.0) for part in (one, other))
        norm = math.sqrt(float((a_TK**2).sum()))
        score = abs(float((a_TK * b_TK).sum())) / norm if norm else 0.0
        yield _test(draws, name, f"{score:.3g} deviations alike", 2 * float(ndtr(-score)))


def _fineness(draws: Draws, noise_TK: Reals) -> Iterator[NoiseTest]:
    """Draws on the grid, no two of them equal more often than chance, with fair low bits.

    On a grid g two draws of deviation s are equal with probability g/(2√π s) at most, and the k
    lowest bits of a multiple of g are fair to e^{−2π²(s/(2^k g))²}, far below what is counted. The
    grid is that of σΔ, which std passes by σ·2⁻²⁶·√K of it at most: where that leaves two grids,
    each test takes the one that forgives more.
    """
    live_TK, size = draws.live_TK, noise_TK.shape[1]
    noise_n = noise_TK[live_TK]
    grid_T = np.array([grid_of(std) for std in draws.std_T])
    if draws.lattice:
        room = 1 + draws.multiplier * 2.0**-GRID_BITS * math.sqrt(size)
        fine_T = np.array([grid_of(std / room) for std in draws.std_T])
        steps_TK = noise_TK / fine_T[:, None]
        off = int((live_TK & (steps_TK != np.round(steps_TK))).sum())
        found = f"{off} of {len(noise_n)}"
        yield _test(draws, "draws off the grid", found, 0.0 if off else 1.0)
    share = float((grid_T / draws.std_T).max()) / (2 * math.sqrt(math.pi))
    expected = len(noise_n) * (len(noise_n) - 1) / 2 * share
    repeats = len(noise_n) - len(np.unique(noise_n))
    found = f"{repeats}, where chance gives {expected:.1f} at most"
    p_value = float(poisson.sf(repeats - 1, expected))
    yield _test(draws, "draws that repeat another", found, p_value)
    index_TK = np.floor(noise_TK / grid_T[:, None])
    wide_n = index_TK[live_TK & (np.abs(noise_TK) >= draws.std_T[:, None])].astype(np.int64)
    for bit in range(LOW_BITS if len(wide_n) else 0):
        ones = int(((wide_n >> bit) & 1).sum())
        found, p_value = f"{ones} of {len(wide_n)} are 1", _two_sided(ones, len(wide_n), 0.5)
        yield _test(draws, f"bit {bit} of the draws beyond one deviation", found, p_value)


def _two_sided(k: int, trials: int, probability: float) -> float:
    return 2 * float(min(binom.cdf(k, trials, probability), binom.sf(k - 1, trials, probability)))


def _test(draws: Draws, name: str, found: str, p_value: float) -> NoiseTest:
    p_value = min(1.0, max(p_value, sys.float_info.min))
    return NoiseTest(name=name, where=draws.where, found=found, p_value=p_value)
