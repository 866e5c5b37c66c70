"""How many canaries an audit needs: its power against noise that is less than claimed.

The canaries are crafted gradients (`canaries.gradients`), which tell the most; canaries told by the
model alone show less, and how much less no formula says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
from dpigu.accountants import get_accountant
from dpigu.audits.statistics.combined import WITH_SPREAD, accounted_curve
from dpigu.audits.statistics.fdp import TradeOffCurve, fdp_rejects
from dpigu.audits.statistics.one_run import (
    GuessGrid,
    Reals,
    count_correct,
    guess_grid,
    one_run_p_value,
)
from dpigu.dpcore import Adjacency, DataError, PoissonSampler
from scipy.stats import chi2

CANARIES = (50, 100, 200, 500, 1000, 2000)
NOISE = (1.0, 0.85, 0.5, 0.3, 0.1)
ENOUGH = 0.8
POOL, DRAWS = 4000, 20_000_000
AUDITS = 400
"""Simulated audits a point: a power is known to ± 0.05 at 95%."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """What happens if the noise is `noise` times the claimed one.

    Args:
        epsilon: that training then really has, at the claim's δ; None where it has none.
        power: the share of audits that contradict, for each number of canaries.
    """

    noise: float
    epsilon: float | None
    power: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class PowerPlan:
    """Power against canaries, for one claim and several violations."""

    epsilon: float
    delta: float
    confidence: float
    canaries: tuple[int, ...]
    violations: tuple[Violation, ...]

    def enough(self, violation: Violation) -> int | None:
        """The fewest canaries with a power of 80%, or None if none of these has it."""
        reached = zip(self.canaries, violation.power, strict=True)
        return next((m for m, power in reached if power >= ENOUGH), None)


def plan_power(
    *,
    noise_multiplier: float,
    rate: float,
    steps: int,
    delta: float,
    confidence: float = 0.95,
    canaries: Sequence[int] = CANARIES,
    noise: Sequence[float] = NOISE,
) -> PowerPlan:
    """Simulate audits of a run of `steps` releases at a sampling rate, for each violation.

    A canary's score is Σ_t log(1 − q + q·exp((o_t − ½)/σ²)), o_t ~ N(b_t, (noise·σ)²), where
    b_t ~ Bernoulli(q) for one that is in and 0 for the others. The audit is that of
    `dpaudit model` at the run's own claim, with both its tests.

    Raises: DataError for σ = 0, or no canaries; AccountingError for δ outside (0, 1).
    """
    if not noise_multiplier > 0 or not noise or min(noise) <= 0:
        raise DataError("power needs noise above 0", where="noise", got=noise_multiplier)
    if not canaries or min(canaries) < 1:
        raise DataError("power needs a canary or more", where="canaries", got=tuple(canaries))
    claim, curve = _accounted(noise_multiplier, rate, steps, delta)
    counts = tuple(sorted(set(canaries)))
    grids = [guess_grid(m) for m in counts]
    needed = [_needed(m, guess_grid(m), claim, delta, confidence, curve) for m in counts]
    draw = np.random.default_rng(0)  # of simulated audits: no run's noise, no run's coins
    violations = []
    for factor in noise:
        inside, outside = _pools(draw, noise_multiplier, factor, rate, steps)
        power = tuple(
            _share(draw, m, grid, least, inside, outside)
            for m, grid, least in zip(counts, grids, needed, strict=True)
        )
        true = get_accountant("pld").epsilon(_event(factor * noise_multiplier, rate, steps), delta)
        violations.append(Violation(noise=factor, epsilon=true.value, power=power))
    return PowerPlan(
        epsilon=claim,
        delta=delta,
        confidence=confidence,
        canaries=counts,
        violations=tuple(violations),
    )


def spread_power(noise: float, observations: int, confidence: float = 0.95) -> float:
    """The power of the test of the spread if `noise` times the claimed σ is drawn.

    P[noise²·χ²_n ≤ q], where q is the quantile of χ²_n at the level of the test over all n
    observations together: a third of the spread's share. Exact where the data add nothing to an
    observation; what they add hides a little.
    """
    level = (1 - confidence) * WITH_SPREAD["spread"] / 3
    return float(chi2.cdf(chi2.ppf(level, observations) / noise**2, observations))


def _event(sigma: float, rate: float, steps: int) -> SelfComposedDpEvent:
    sampler = PoissonSampler(rate, 1)
    return SelfComposedDpEvent(sampler.event(GaussianDpEvent(sigma)), steps)


def _accounted(
    sigma: float, rate: float, steps: int, delta: float
) -> tuple[float, TradeOffCurve | None]:
    event = _event(sigma, rate, steps)
    claim = get_accountant("pld").epsilon(event, delta).value
    if claim is None:
        raise DataError("this run would claim no ε, so there is nothing to contradict")
    return claim, accounted_curve(event, Adjacency.ADD_OR_REMOVE_ONE)


def _needed(
    m: int,
    grid: GuessGrid,
    epsilon: float,
    delta: float,
    confidence: float,
    curve: TradeOffCurve | None,
) -> tuple[int, ...]:
    """For each guess count, the fewest right that either test rejects: r + 1 where none does."""
    level = (1 - confidence) * WITH_SPREAD["one-run"] / len(grid)

    def rejects(r: int, v: int) -> bool:
        if one_run_p_value(m, r, v, epsilon, delta) < level:
            return True
        return curve is not None and fdp_rejects(curve, m, r, v, level)

    needed = []
    for r in grid:
        low, high = r // 2, r + 1  # no fewer than half can ever be rejected
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if rejects(r, middle) else (middle, high)
        needed.append(high)
    return tuple(needed)


def _pools(
    draw: np.random.Generator, sigma: float, factor: float, rate: float, steps: int
) -> tuple[Reals, Reals]:
    """Scores of canaries that were in, and of those that were not."""
    size = max(500, min(POOL, DRAWS // steps))
    pools = []
    for member in (1.0, 0.0):
        total = np.zeros(size)
        for _ in range(steps):
            o = draw.normal(0.0, factor * sigma, size) + member * (draw.random(size) < rate)
            exponent = (o - 0.5) / sigma**2
            if rate < 1:
                exponent = np.logaddexp(np.log1p(-rate), exponent + np.log(rate))
            total += exponent
        pools.append(total)
    return pools[0], pools[1]


def _share(
    draw: np.random.Generator,
    m: int,
    grid: GuessGrid,
    needed: tuple[int, ...],
    inside: Reals,
    outside: Reals,
) -> float:
    """The share of simulated audits that contradict."""
    found = 0
    for _ in range(AUDITS):
        coins = draw.integers(0, 2, m)
        scores = np.where(coins == 1, draw.choice(inside, m), draw.choice(outside, m))
        right = count_correct(scores, coins, grid)
        found += any(v >= least for v, least in zip(right, needed, strict=True))
    return found / AUDITS
