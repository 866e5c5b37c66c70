"""The noise by itself: is it on every coordinate, as wide, as shaped and as fine as is claimed?

A batch of no records releases the noise alone. In a space of thousands of coordinates, a few
releases give tens of thousands of draws, which the claim says are independent, Gaussian and
rounded to a grid far below their spread. No neighbours are needed to see that they are not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from dpigu.audits.mechanism.traces import RECORDS, ShortRun, begin, public_MD
from dpigu.audits.statistics import Reals, bonferroni
from dpigu.dpcore import Clock, Phase, Reads, Space
from dpigu.dpcore.noise.laws import grid_of
from scipy.stats import binom, chi2, kstest, poisson

WIDE = Space(
    ("conv.weight", "conv.bias", "hidden.weight", "hidden.bias", "out.weight", "out.bias"),
    ((8, 1, 3, 3), (8,), (64, 72), (64,), (10, 64), (10,)),
)
"""5,402 coordinates: what is left out beyond some number of them shows."""
DRAWS, MOST = 40_000, 100
"""How many draws are wanted of each phase, and how many releases may be made for them."""
LOW_BITS = 4
TAILS = (3.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class NoiseTest:
    """One test of a phase's noise, with its p-value, not divided."""

    name: str
    phase: str
    found: str
    p_value: float


@dataclass(frozen=True, kw_only=True)
class NoiseAudit:
    """The tests of every phase's noise; `p_value` is corrected for their number."""

    draws: int
    p_value: float
    tests: tuple[NoiseTest, ...]

    @property
    def worst(self) -> NoiseTest:
        """The test with the smallest p-value."""
        return min(self.tests, key=lambda test: test.p_value)


def audit_noise(short_run: ShortRun, phases: tuple[Phase, ...]) -> NoiseAudit:
    """Test the noise of every phase's first step, at the phase's own length.

    Args:
        short_run: what makes the kernels, and from which noise.
        phases: of the plan, as they are.
    """
    tests: list[NoiseTest] = []
    total = 0
    earlier: Reads = {}
    for phase in phases:
        driver = short_run.driver(phase.pipeline, earlier)
        pipeline = driver.pipeline
        states = begin(pipeline, phase.steps)
        size = pipeline.space.size
        open_ = driver.open(states, Clock(0, phase.steps), public_MD(size, 0))
        sigma = pipeline.stages.noiser.noise_multiplier
        live = open_.context.noise_support_K.numpy()
        rows: list[Reals] = []
        wanted = 2
        while len(rows) < wanted:
            release, after = open_.release([])
            rows.append(release.noised.value.double().numpy()[live] * RECORDS)
            wanted = min(MOST, max(2, -(-DRAWS // max(1, len(rows[0])))))
        std = float(release.noised.variance.double().max().sqrt()) * RECORDS
        noise_RK = np.array(rows)
        if noise_RK.size:
            lattice = pipeline.stages.noiser.law == "gaussian"
            claimed = sigma * open_.bound
            tests += list(_tests(phase.name, noise_RK, claimed, max(std, claimed), lattice))
            total += noise_RK.size
        earlier = pipeline.views(after)
    p_value = bonferroni([test.p_value for test in tests]) if tests else 1.0
    return NoiseAudit(draws=total, p_value=p_value, tests=tuple(tests))


def _tests(
    phase: str, noise_RK: Reals, claimed: float, std: float, lattice: bool
) -> Iterator[NoiseTest]:
    """Every test of R releases of K coordinates.

    Args:
        claimed: σC. std: of the law, a little above it.
        lattice: whether the law promises integer multiples of a grid.
    """
    finite = np.isfinite(noise_RK)
    bad = int((~finite).sum())
    yield NoiseTest(
        name="draws that are no numbers",
        phase=phase,
        found=f"{bad}",
        p_value=sys.float_info.min if bad else 1.0,
    )
    z_RK = np.where(finite, noise_RK, 0.0) / std
    yield from _spread(phase, z_RK * std / claimed)
    yield from _shape(phase, z_RK.ravel())
    yield from _fineness(phase, np.where(finite, noise_RK, 0.0).ravel(), std, lattice)


def _spread(phase: str, z_RK: Reals) -> Iterator[NoiseTest]:
    """Σ z² is χ²: too small a sum is too little noise, in all or on some coordinate."""
    r, k = z_RK.shape
    square_K = (z_RK**2).sum(0)
    yield NoiseTest(
        name="the spread of all draws",
        phase=phase,
        found=f"{math.sqrt(float(square_K.mean()) / r):.4g} of what is claimed",
        p_value=_p(float(chi2.cdf(square_K.sum(), r * k))),
    )
    p_K = chi2.cdf(square_K, r)
    least = int(p_K.argmin())
    yield NoiseTest(
        name="the coordinate with the least noise",
        phase=phase,
        found=f"{math.sqrt(float(square_K[least]) / r):.4g} of what is claimed, on {least}",
        p_value=_p(k * float(p_K[least])),
    )


def _shape(phase: str, z_n: Reals) -> Iterator[NoiseTest]:
    """The distribution function, and how many draws lie far out."""
    yield NoiseTest(
        name="the shape of the draws",
        phase=phase,
        found="by Kolmogorov and Smirnov",
        p_value=_p(float(kstest(z_n, "norm").pvalue)),
    )
    for far in TAILS:
        beyond, share = int((np.abs(z_n) > far).sum()), math.erfc(far / math.sqrt(2))
        low, high = binom.cdf(beyond, len(z_n), share), binom.sf(beyond - 1, len(z_n), share)
        yield NoiseTest(
            name=f"draws beyond {far:g} deviations",
            phase=phase,
            found=f"{beyond}, where chance gives {len(z_n) * share:.1f}",
            p_value=_p(2 * float(min(low, high))),
        )


def _fineness(phase: str, noise_n: Reals, std: float, lattice: bool) -> Iterator[NoiseTest]:
    """Draws on the grid, no two of them equal more often than chance, with fair low bits.

    On a grid g two draws of deviation s are equal with probability g/(2√π s), and the k lowest
    bits of a multiple of g are fair to e^{−2π²(s/(2^k g))²}, far below what is counted. s is known
    to a part of 2⁻²⁰: where that leaves two grids, each test takes the one that forgives more.
    """
    grid, n = grid_of(std), len(noise_n)
    if lattice:
        fine = grid_of(std * (1 - 2.0**-20))
        off = int((noise_n != np.round(noise_n / fine) * fine).sum())
        yield NoiseTest(
            name="draws off the grid",
            phase=phase,
            found=f"{off} of {n}",
            p_value=sys.float_info.min if off else 1.0,
        )
    values = np.unique(noise_n)
    expected = n * (n - 1) / 2 * grid / (2 * math.sqrt(math.pi) * std)
    repeats = n - len(values)
    yield NoiseTest(
        name="draws that repeat another",
        phase=phase,
        found=f"{repeats}, where chance gives {expected:.1f} at most",
        p_value=_p(float(poisson.sf(repeats - 1, expected))),
    )
    steps_n = np.floor(noise_n / grid).astype(np.int64)
    wide_n = steps_n[np.abs(noise_n) >= std]
    for bit in range(LOW_BITS if len(wide_n) else 0):
        ones = int(((wide_n >> bit) & 1).sum())
        low, high = binom.cdf(ones, len(wide_n), 0.5), binom.sf(ones - 1, len(wide_n), 0.5)
        yield NoiseTest(
            name=f"bit {bit} of the draws beyond one deviation",
            phase=phase,
            found=f"{ones} of {len(wide_n)} are 1",
            p_value=_p(2 * float(min(low, high))),
        )


def _p(value: float) -> float:
    return min(1.0, max(value, sys.float_info.min))
