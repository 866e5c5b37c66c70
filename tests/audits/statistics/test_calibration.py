"""Calibration: true claims are contradicted no more often than promised, false ones are caught.

Each mechanism runs 1,000 times with fresh coins and is tested at a 5% level. A test passes with at
most 73 false contradictions: an audit of exactly 5% exceeds that once in some 1,500 seeds, one
whose true level is 10% is caught 99.8% of the time. Seeds are fixed. The mutants at the end show
that each kind of mistake does exceed 73.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dpigu.audits.statistics.fdp import (
    TradeOffCurve,
    approximate_dp_tradeoff,
    fdp_one_run_test,
    fdp_p_value,
    gaussian_delta,
    gaussian_tradeoff,
    mu_to_epsilon,
    tradeoff_from_epsilon_delta_pairs,
)
from dpigu.audits.statistics.one_run import (
    bonferroni,
    count_correct,
    guess_grid,
    one_run_p_value,
    one_run_test,
)
from numpy.typing import NDArray
from scipy.stats import binom, norm

M, REPETITIONS, ALLOWED, CONFIDENCE = 1000, 1000, 73, 0.95
LEVEL = 1 - CONFIDENCE
GRID = guess_grid(M)
RATE, STEPS = 0.25, 8
BURST, REVEALED = 0.125, 20
CORRELATED_SHARE = 0.162

Coins = NDArray[np.int64]
Scores = NDArray[np.float64]
Decide = Callable[[dict[int, int]], float]
"""A p-value from how many guesses are right, by how many are made."""


def randomized_response(rng: np.random.Generator, coins: Coins, epsilon: float = 1.0) -> Scores:
    """Every bit right with probability q exactly, in a random order: tight at every grid point."""
    right = rng.random(coins.shape) < 1 / (1 + math.exp(-epsilon))
    return np.where(right, 2 * coins - 1, 1 - 2 * coins) * rng.random(coins.shape)


def gaussian(rng: np.random.Generator, coins: Coins) -> Scores:
    """N(coin, 1): 1-GDP."""
    return coins + rng.normal(size=coins.shape)


def subsampled_gaussian(rng: np.random.Generator, coins: Coins) -> Scores:
    """Eight steps at rate ¼, σ = 1, scored by the likelihood ratio."""
    scores = np.zeros(coins.shape)
    for _ in range(STEPS):
        sampled = coins * (rng.random(coins.shape) < RATE)
        seen = sampled + rng.normal(size=coins.shape)
        scores += np.log(1 - RATE + RATE * np.exp(seen - 0.5))
    return scores


def burst(rng: np.random.Generator, coins: Coins) -> Scores:
    """(0, δ): with probability mδ/i it reveals i bits chosen at random, else nothing."""
    chosen = rng.random(coins.shape).argsort(axis=1).argsort(axis=1) < REVEALED
    bursts = rng.random((len(coins), 1)) < BURST
    return np.where(chosen & bursts, 2 * coins - 1, 0).astype(float)


def a_few_bits(rng: np.random.Generator, coins: Coins) -> Scores:
    """(0, 0.015): each bit is revealed by itself with probability 0.015."""
    return np.where(rng.random(coins.shape) < 0.015, 2 * coins - 1, 0).astype(float)


def correlated(rng: np.random.Generator, coins: Coins) -> Scores:
    """With probability 0.162 ε = 2 randomized response on every bit, else noise: 1-GDP."""
    released = rng.random((len(coins), 1)) < CORRELATED_SHARE
    noise = rng.normal(size=coins.shape)
    return np.where(released, randomized_response(rng, coins, 2.0), noise)


@cache
def subsampled_profile() -> tuple[tuple[float, float], ...]:
    """(ε, δ) pairs by the PLD accountant, the larger δ of adding and removing."""
    grid = np.linspace(0, 12, 241)
    loss = pld.from_gaussian_mechanism(1.0, sampling_prob=RATE).self_compose(STEPS)
    return tuple(zip(grid.tolist(), loss.get_delta_for_epsilon(grid).tolist(), strict=True))


def subsampled_curve() -> TradeOffCurve:
    return tradeoff_from_epsilon_delta_pairs(subsampled_profile())


def subsampled_claim() -> tuple[float, float]:
    return next((epsilon, 1e-5) for epsilon, delta in subsampled_profile() if delta <= 1e-5)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A mechanism with a true claim and curve, and false ones with the share caught at least."""

    release: Callable[[np.random.Generator, Coins], Scores]
    claim: Callable[[], tuple[float, float]]
    curve: Callable[[], TradeOffCurve]
    false_claim: tuple[float, float]
    false_curve: TradeOffCurve
    power: float


BURST_DELTA = BURST * REVEALED / M
CASES = [
    Case(
        release=randomized_response,
        claim=lambda: (1.0, 0.0),
        curve=lambda: approximate_dp_tradeoff(1.0, 0.0),
        false_claim=(0.6, 0.0),
        false_curve=approximate_dp_tradeoff(0.6, 0.0),
        power=0.95,
    ),
    Case(
        release=gaussian,
        claim=lambda: (mu_to_epsilon(1.0, 1e-5), 1e-5),
        curve=lambda: gaussian_tradeoff(1.0),
        false_claim=(0.5, 1e-5),
        false_curve=gaussian_tradeoff(0.2),
        power=0.8,
    ),
    Case(
        release=subsampled_gaussian,
        claim=subsampled_claim,
        curve=subsampled_curve,
        false_claim=(0.2, 1e-5),
        false_curve=gaussian_tradeoff(0.1),
        power=0.8,
    ),
    Case(
        release=burst,
        claim=lambda: (0.0, BURST_DELTA),
        curve=lambda: approximate_dp_tradeoff(0.0, BURST_DELTA),
        false_claim=(0.0, BURST_DELTA / 100),
        false_curve=approximate_dp_tradeoff(0.0, BURST_DELTA / 100),
        power=0.1,  # of the bursts, which come in one run of eight
    ),
    Case(
        release=a_few_bits,
        claim=lambda: (0.0, 0.015),
        curve=lambda: approximate_dp_tradeoff(0.0, 0.015),
        false_claim=(0.0, 1e-6),
        false_curve=approximate_dp_tradeoff(0.0, 1e-6),
        power=0.8,
    ),
    Case(
        release=correlated,
        claim=lambda: (mu_to_epsilon(1.0, 1e-5), 1e-5),
        curve=lambda: gaussian_tradeoff(1.0),
        false_claim=(1.0, 1e-5),
        false_curve=gaussian_tradeoff(0.4),
        power=0.13,  # of the releases, which come in 16.2% of the runs
    ),
]
NAMES = [case.release.__name__ for case in CASES]


COUNTED = tuple(sorted({*GRID, REVEALED, M // 2, M}))


def runs(case: Case, count: int = REPETITIONS) -> tuple[Scores, Coins]:
    rng = np.random.default_rng(sum(case.release.__name__.encode()))
    coins = rng.integers(0, 2, (REPETITIONS, M))
    return case.release(rng, coins)[:count], coins[:count]


@cache
def correct(name: str) -> tuple[dict[int, int], ...]:
    """How many guesses are right in every run, by how many are made."""
    found = (count_correct(s, c, COUNTED) for s, c in zip(*runs(mechanism(name)), strict=True))
    return tuple(dict(zip(COUNTED, counts, strict=True)) for counts in found)


def contradictions(case: Case, decide: Decide) -> int:
    return sum(decide(counts) < LEVEL for counts in correct(case.release.__name__))


def one_run(epsilon: float, delta: float) -> Decide:
    """`one_run_test(...).p_value`, with the p-value of each pair of counts computed once."""
    point = cache(lambda r, v: one_run_p_value(M, r, v, epsilon, delta))
    return over_grid(point)


def f_dp(curve: TradeOffCurve) -> Decide:
    """`fdp_one_run_test(...).p_value`, with the p-value of each pair of counts computed once."""
    return over_grid(cache(lambda g, c: fdp_p_value(curve, M, g, c)))


def over_grid(
    point: Callable[[int, int], float], combine: Callable[[list[float]], float] = bonferroni
) -> Decide:
    return lambda counts: combine([point(r, counts[r]) for r in GRID])


# What is promised -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_one_run_test_keeps_its_level(case: Case) -> None:
    assert contradictions(case, one_run(*case.claim())) <= ALLOWED


def test_one_planned_guess_count_spends_nearly_the_whole_level() -> None:
    """Randomized response at r = 500, undivided: exactly binomial, so not far below 5% either."""
    point = cache(lambda v: one_run_p_value(M, 500, v, 1.0, 0.0))
    case = mechanism("randomized_response")
    assert 20 <= contradictions(case, lambda counts: point(counts[500])) <= ALLOWED


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_f_dp_test_keeps_its_level(case: Case) -> None:
    assert contradictions(case, f_dp(case.curve())) <= ALLOWED


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_one_run_test_catches_a_claim_that_is_too_small(
    case: Case, record_property: Callable[[str, object], None]
) -> None:
    caught = contradictions(case, one_run(*case.false_claim))
    record_property("power", caught / REPETITIONS)
    assert caught >= case.power * REPETITIONS


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_f_dp_test_catches_a_curve_that_is_too_high(
    case: Case, record_property: Callable[[str, object], None]
) -> None:
    caught = contradictions(case, f_dp(case.false_curve))
    record_property("power", caught / REPETITIONS)
    assert caught >= case.power * REPETITIONS


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_what_is_calibrated_is_what_is_shipped(case: Case) -> None:
    epsilon, delta = case.false_claim
    cached_one_run, cached_f_dp = one_run(epsilon, delta), f_dp(case.false_curve)
    for (scores, coins), counts in zip(
        zip(*runs(case, 5), strict=True), correct(case.release.__name__)[:5], strict=True
    ):
        shipped = one_run_test(scores, coins, GRID, epsilon, delta, CONFIDENCE)
        assert shipped.p_value == pytest.approx(cached_one_run(counts), rel=1e-12)
        assert (shipped.lower_bound > epsilon) == (shipped.p_value < LEVEL)
        curve = fdp_one_run_test(case.false_curve, scores, coins, GRID)
        assert curve.p_value == pytest.approx(cached_f_dp(counts), rel=1e-12)


def test_allowance_is_the_stated_binomial_bound() -> None:
    """P[Bin(1000, 5%) > 73] = 1/1544; P[Bin(1000, 10%) > 73] = 99.8%."""
    assert round(1 / binom.sf(ALLOWED, REPETITIONS, 0.05)) == 1544
    assert 0.9975 < binom.sf(ALLOWED, REPETITIONS, 0.10) < 0.9985


def test_correlated_mechanism_is_1_gdp() -> None:
    """Its profile 0.162·max(0, q − e^ε(1 − q)), q = e²/(1 + e²), lies under the 1-GDP one."""
    q = 1 / (1 + math.exp(-2))
    for epsilon in np.linspace(0, 2, 401):
        profile = CORRELATED_SHARE * (q - math.exp(epsilon) * (1 - q))
        assert profile <= gaussian_delta(1.0, float(epsilon))


# Mutants: each mistake exceeds the allowance -----------------------------------------------------


def mechanism(name: str) -> Case:
    return CASES[NAMES.index(name)]


def test_uncorrected_threshold_search_is_caught() -> None:
    case = mechanism("randomized_response")
    point = cache(lambda r, v: one_run_p_value(M, r, v, *case.claim()))
    assert contradictions(case, over_grid(point, combine=min)) > ALLOWED


@pytest.mark.parametrize("name", ["burst", "a_few_bits"])
def test_forgetting_delta_is_caught(name: str) -> None:
    assert contradictions(mechanism(name), one_run(0.0, 0.0)) > ALLOWED


def test_forgetting_abstentions_is_caught() -> None:
    case = mechanism("burst")
    point = cache(lambda r, v: one_run_p_value(r, r, v, *case.claim()))
    assert contradictions(case, lambda counts: point(REVEALED, counts[REVEALED])) > ALLOWED


def test_iid_tail_is_caught_by_the_correlated_mechanism() -> None:
    """A binomial tail at accuracy Φ(μ/2), which independent 1-GDP bits could not pass."""
    accuracy = float(norm.cdf(0.5))
    point = cache(lambda v: float(binom.sf(v - 1, M, accuracy)))
    tail = contradictions(mechanism("correlated"), lambda counts: point(counts[M]))
    assert ALLOWED < tail < 200  # about 16%
