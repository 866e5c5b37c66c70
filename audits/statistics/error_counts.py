"""Tests of a Gaussian trade-off curve from a guess's errors over independent trials.

A trial runs a mechanism with or without the record, and a rule that was fixed beforehand guesses
which. Under μ-GDP its error rates satisfy FN ≥ G_μ(FP), whatever the mechanism and the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from dpigu.audits.statistics.clopper_pearson import clopper_pearson_epsilon, clopper_pearson_limits
from dpigu.audits.statistics.one_run import check_counts
from scipy.special import bdtrc, betaincinv

_NORMAL = NormalDist()
_SMALLEST = 1e-15
_HALVINGS = 60
_LARGEST = 16.0  # no practical number of runs reaches a μ so large

Criterion = Literal["total", "pair"]


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """Errors of a guess: false positives of `runs` without the record, false negatives of
    `runs` with it."""

    false_positives: int
    false_negatives: int
    runs: int

    def __post_init__(self) -> None:
        check_counts(false_positives=self.false_positives, runs=self.runs)
        check_counts(false_negatives=self.false_negatives, runs=self.runs)

    def p_value(self, mu: float, criterion: Criterion) -> float:
        """A p-value of "the mechanism is μ-GDP"; at least 1e-15."""
        return max(_SMALLEST, _TESTS[criterion][0](self, mu))

    def mu_bound(self, level: float, criterion: Criterion) -> float:
        """The largest μ that is rejected at this level: the same test, inverted."""
        return max(0.0, _TESTS[criterion][1](self, level))

    def epsilon_bound(self, delta: float, level: float) -> float:
        """Lower bound on ε at δ by counting alone, without the curve: `clopper_pearson_epsilon`.

        It holds for any mechanism, and is far below what a Gaussian has where δ is small.
        """
        fp, fn = self.false_positives, self.false_negatives
        return clopper_pearson_epsilon(fp, self.runs, fn, self.runs, delta, 1 - level)


def _total_p(errors: ErrorCounts, mu: float) -> float:
    """P[Bin(2n, Φ(μ/2)) ≥ right guesses], or 1 where they are not above its mean by 1.

    FP + FN ≥ min_α α + G_μ(α) = 2Φ(−μ/2), so right guesses over both sides are a sum of
    independent coins whose mean probability is at most Φ(μ/2); its upper tail, from one above the
    mean on, is at most that of equal coins.

    Source: Hoeffding 1956, "On the distribution of the number of successes in independent trials",
        theorem 4.
    """
    right, trials, most = *_right(errors), _NORMAL.cdf(mu / 2)
    return float(bdtrc(right - 1, trials, most)) if right >= trials * most + 1 else 1.0


def _total_mu(errors: ErrorCounts, level: float) -> float:
    """2Φ⁻¹(p) with p the lower Clopper-Pearson limit of the share of right guesses."""
    right, trials = _right(errors)
    if right == 0:
        return 0.0
    share = float(betaincinv(right, trials - right + 1, level))
    share = min(share, (right - 1) / trials)
    return 2 * _NORMAL.inv_cdf(share) if share > 0.5 else 0.0


def _pair_p(errors: ErrorCounts, mu: float) -> float:
    """The least a at which `_pair_mu` passes μ, found from above."""
    low, high = _SMALLEST, 1.0
    if _pair_mu(errors, low) > mu:
        return low
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _pair_mu(errors, middle) > mu else (middle, high)
    return high


def _pair_mu(errors: ErrorCounts, level: float) -> float:
    """Φ⁻¹(1 − FP̄) − Φ⁻¹(FN̄), both limits jointly at 1 − level: G_μ(FP̄) > FN̄ for smaller μ.

    It suits rules that err on one side only, such as a release that gives a record away now and
    then; for a Gaussian the errors in all say more.
    """
    fp, fn = errors.false_positives, errors.false_negatives
    limits = clopper_pearson_limits(fp, errors.runs, fn, errors.runs, 1 - level)
    if max(limits) >= 1:
        return 0.0
    return -_NORMAL.inv_cdf(limits[0]) - _NORMAL.inv_cdf(limits[1])


def _right(errors: ErrorCounts) -> tuple[int, int]:
    trials = 2 * errors.runs
    return trials - errors.false_positives - errors.false_negatives, trials


_TESTS: dict[
    Criterion, tuple[Callable[[ErrorCounts, float], float], Callable[[ErrorCounts, float], float]]
] = {
    "total": (_total_p, _total_mu),
    "pair": (_pair_p, _pair_mu),
}


def runs_needed(mu: float, level: float, share: float, power: float = 2.0) -> int:
    """Runs a side after which the bound of `total` is expected to pass share · μ.

    n = ((z_level + power)·√(2p(1−p)) / (φ(μ/2)·(1−share)·μ))², p = Φ(−μ/2): the bound's distance
    from μ and `power` of its standard deviations, for a Gaussian mechanism that is μ-GDP.
    """
    mu = min(mu, _LARGEST)
    p, density = _NORMAL.cdf(-mu / 2), _NORMAL.pdf(mu / 2)
    deviations = _NORMAL.inv_cdf(1 - level) + power
    return math.ceil((deviations * math.sqrt(2 * p * (1 - p)) / (density * (1 - share) * mu)) ** 2)


def runs_for_ceiling(mu: float, level: float) -> int:
    """Runs a side with which no error at all would reject μ by `total`: Φ(μ/2)^(2n) < level."""
    miss = _NORMAL.cdf(-min(mu, _LARGEST) / 2)
    return math.floor(math.log(level) / (2 * math.log1p(-miss))) + 1
