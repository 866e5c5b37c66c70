"""Tests from a guess's errors: exact values, duality, and no more false alarms than promised."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from dpigu.audits.statistics.clopper_pearson import clopper_pearson_limits
from dpigu.audits.statistics.error_counts import (
    Criterion,
    ErrorCounts,
    runs_for_ceiling,
    runs_needed,
)
from dpigu.audits.statistics.fdp import gaussian_tradeoff
from dpigu.dpcore import DataError
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

CRITERIA: tuple[Criterion, ...] = ("total", "pair")
COUNTS = st.integers(1, 400).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))
)


def errors(fp: int, fn: int, runs: int) -> ErrorCounts:
    return ErrorCounts(false_positives=fp, false_negatives=fn, runs=runs)


def test_total_is_the_binomial_tail_at_the_curves_middle() -> None:
    """P[Bin(20, Φ(½)) ≥ 18] for μ = 1 and two errors in ten runs a side, by fractions."""
    share = Fraction(NormalDist().cdf(0.5))
    tail = sum(math.comb(20, k) * share**k * (1 - share) ** (20 - k) for k in (18, 19, 20))
    assert errors(1, 1, 10).p_value(1.0, "total") == pytest.approx(float(tail), rel=1e-12)


def test_curve_is_lowest_in_its_middle() -> None:
    """FP + FN ≥ 2Φ(−μ/2) on G_μ, which `total` rests on."""
    for mu in (0.3, 1.0, 3.0):
        curve = gaussian_tradeoff(mu)
        sums = [a + curve(a) for a in np.linspace(0, 1, 2001).tolist()]
        assert min(sums) == pytest.approx(2 * norm.cdf(-mu / 2), abs=1e-6)


def test_two_coins_are_no_more_extreme_than_equal_ones() -> None:
    """Hoeffding's theorem 4, which `total` rests on: exact, for every pair of shares."""
    n = 12
    for one in np.linspace(0, 1, 11):
        for other in np.linspace(0, 1, 11):
            pmf = np.convolve(binom.pmf(range(n + 1), n, one), binom.pmf(range(n + 1), n, other))
            mean = (one + other) / 2
            for k in range(math.ceil(2 * n * mean + 1), 2 * n + 1):
                assert pmf[k:].sum() <= binom.sf(k - 1, 2 * n, mean) + 1e-12


def test_pair_rejects_where_both_limits_lie_below_the_curve() -> None:
    """FP̄ and FN̄ of 3 and 5 errors in 200 runs a side, jointly at 95%."""
    fp, fn = clopper_pearson_limits(3, 200, 5, 200, 0.95)
    bound = errors(3, 5, 200).mu_bound(0.05, "pair")
    assert gaussian_tradeoff(bound - 1e-6)(fp) > fn > gaussian_tradeoff(bound + 1e-6)(fp)


@given(counts=COUNTS, level=st.floats(1e-6, 0.4), criterion=st.sampled_from(CRITERIA))
def test_bound_is_the_test_turned_round(
    counts: tuple[int, int, int], level: float, criterion: Criterion
) -> None:
    """p(μ) < level for every μ below the bound, and not above it."""
    found = errors(*counts)
    bound = found.mu_bound(level, criterion)
    if bound > 1e-6:
        assert found.p_value(bound * (1 - 1e-9), criterion) <= level * (1 + 1e-6)
    assert found.p_value(bound + 1e-6, criterion) >= level * (1 - 1e-6)


@given(counts=COUNTS, criterion=st.sampled_from(CRITERIA))
def test_p_value_rises_with_the_claim(counts: tuple[int, int, int], criterion: Criterion) -> None:
    p_values = [
        errors(*counts).p_value(mu, criterion) for mu in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 80.0)
    ]
    assert p_values == sorted(p_values)
    assert p_values[0] > 0 and p_values[-1] <= 1


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("mu", [0.5, 2.0, 4.0])
def test_a_gaussian_is_contradicted_no_more_often_than_promised(
    criterion: Criterion, mu: float
) -> None:
    """2,000 repetitions of 300 runs a side at the exact claim and a level of 5%.

    At most 133 rejections: a correct test passes that once in 1,100 times.
    """
    rng = np.random.default_rng(7)
    wrong = rng.binomial(300, norm.cdf(-mu / 2), (2000, 2)).tolist()
    rejected = sum(errors(fp, fn, 300).mu_bound(0.05, criterion) > mu for fp, fn in wrong)
    assert rejected <= 133
    assert binom.sf(133, 2000, 0.05) < 1 / 1100


def test_total_says_more_of_a_gaussian_and_pair_of_a_one_sided_rule() -> None:
    gaussian, one_sided = errors(79, 79, 500), errors(0, 250, 500)
    assert gaussian.mu_bound(0.05, "total") > gaussian.mu_bound(0.05, "pair")
    assert one_sided.mu_bound(0.05, "pair") > one_sided.mu_bound(0.05, "total") + 0.5


def test_five_thousand_runs_reach_93_percent_and_see_15_percent_too_little_noise() -> None:
    """The brief's numbers at σ = 1, from the expected counts."""
    for sigma, least in ((1.0, 0.93), (0.85, 1 / 0.85 * 0.93)):
        wrong = round(5000 * norm.cdf(-0.5 / sigma))
        assert errors(wrong, wrong, 5000).mu_bound(0.05, "total") > least


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0, 4.0])
def test_runs_needed_reach_what_they_are_needed_for(mu: float) -> None:
    """The bound passes 0.9 μ in at least 90% of 400 repetitions (93% expected)."""
    runs = runs_needed(mu, 0.03, 0.9)
    rng = np.random.default_rng(3)
    wrong = rng.binomial(runs, norm.cdf(-mu / 2), (400, 2)).tolist()
    passed = sum(errors(fp, fn, runs).mu_bound(0.03, "total") > 0.9 * mu for fp, fn in wrong)
    assert passed >= 0.9 * 400


@given(mu=st.floats(0.01, 8), level=st.floats(1e-4, 0.1))
def test_runs_for_a_ceiling_are_the_fewest(mu: float, level: float) -> None:
    runs = runs_for_ceiling(mu, level)
    assert errors(0, 0, runs).p_value(mu, "total") < level or runs == 1
    if runs > 1:
        assert errors(0, 0, runs - 1).p_value(mu, "total") >= level * (1 - 1e-6)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(DataError, match="false positives"):
        errors(11, 0, 10)
