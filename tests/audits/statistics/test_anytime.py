"""e-processes: their means under the claim are at most 1, exactly, and they tell what breaks it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from dpigu.audits.statistics import Reals, approximate_dp_tradeoff, gaussian_tradeoff
from dpigu.audits.statistics.anytime import (
    anytime_chance,
    anytime_epsilon,
    log_e_process,
    logs_by_chance,
    logs_by_claim,
    right_at_most,
)
from scipy.stats import norm


def mean_of(logs_PO: Reals, chances_O: list[float], trials: int) -> float:
    """The mean of E over all sequences of outcomes, one term each."""
    weights, logs = [], []
    for sequence in itertools.product(range(len(chances_O)), repeat=trials):
        weights.append(math.prod(chances_O[i] for i in sequence))
        logs.append(float(log_e_process(logs_PO[:, list(sequence)])[-1]))
    return float(np.dot(weights, np.exp(logs)))


@pytest.mark.parametrize("chance", [0.5, 0.68, 0.9])
def test_guesses_as_good_as_allowed_have_mean_one_and_worse_ones_less(chance: float) -> None:
    logs_PO = logs_by_chance(np.array([0.0, 1.0]), chance)
    assert mean_of(logs_PO, [1 - chance, chance], 7) == pytest.approx(1, abs=1e-12)
    assert mean_of(logs_PO, [1.1 - chance, chance - 0.1], 7) < 1
    assert mean_of(logs_PO, [0.9 - chance, chance + 0.1], 7) > 1


K = 4


def response(right: float, guessed: int) -> dict[tuple[int, int], float]:
    """Chances of (right, wrong) where so many of K bits are each told rightly by itself."""
    return {
        (k, guessed - k): math.comb(guessed, k) * right**k * (1 - right) ** (guessed - k)
        for k in range(guessed + 1)
    }


def mixed(share: float, of: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """Now and then such guesses; else nothing is released, and nothing guessed."""
    found = {outcome: share * chance for outcome, chance in of.items()}
    return found | {(0, 0): found.get((0, 0), 0.0) + 1 - share}


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.2])
def test_each_bet_on_the_worst_mechanisms_of_a_claim_has_mean_at_most_one(
    epsilon: float, delta: float
) -> None:
    """Randomised response on every bit of one model, all the time, on some or now and then; and
    a mechanism that gives all bits away at once with probability δ, which takes all there is."""
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    worst = [response((1 - delta) * right + delta, guessed) for guessed in (1, 3, K)]
    worst += [mixed(0.162, response(right, K)), mixed(delta, {(K, 0): 1.0})]
    for chances in worst:
        counts = np.array(list(chances), dtype=float).T
        factors_PO = np.exp(logs_by_claim(*counts, K, epsilon, delta))
        means_P = factors_PO @ np.array(list(chances.values()))
        assert (means_P <= 1 + 1e-12).all()
    if epsilon == 0.0:
        np.testing.assert_allclose(means_P, 1, rtol=1e-12)


def test_a_little_more_than_the_claim_allows_has_a_mean_above_one() -> None:
    chances = response(0.75 + 1e-3, K)
    counts = np.array(list(chances), dtype=float).T
    factors_PO = np.exp(logs_by_claim(*counts, K, math.log(3), 0.0))
    assert (factors_PO @ np.array(list(chances.values())) > 1).all()


def test_no_factor_rises_with_the_claim() -> None:
    counts = np.array([(r, w) for r in range(K + 1) for w in range(K + 1 - r)], dtype=float).T
    logs = [logs_by_claim(*counts, K, epsilon, 1e-3) for epsilon in np.linspace(0, 9, 200)]
    assert max(float(np.diff(logs, axis=0).max()), 0.0) < 1e-12


def test_guesses_of_one_model_tell_as_much_as_of_as_many_models() -> None:
    draw = np.random.default_rng(0).random((50, 10)) < 0.8
    inside = logs_by_claim(draw.sum(1), (~draw).sum(1), 10, 1.0, 0.0)
    apart = logs_by_claim(draw.ravel() * 1, ~draw.ravel() * 1, 1, 1.0, 0.0)
    np.testing.assert_allclose(log_e_process(inside)[-1], log_e_process(apart)[-1], rtol=1e-9)


def test_paths_share_the_stake() -> None:
    one, none = np.full(50, 0.04), np.zeros(50)
    both = log_e_process(np.stack([one, none]))
    np.testing.assert_allclose(np.exp(both), (np.exp(log_e_process(one)) + 1) / 2)


def test_limits_are_where_the_e_value_passes_the_level() -> None:
    right_N = np.array([1.0] * 80 + [0.0] * 20)
    low = anytime_chance(right_N, 0.05)
    best = [log_e_process(logs_by_chance(right_N, c)).max() for c in (low, low + 1e-6)]
    assert best[0] >= math.log(20) > best[1]
    sure_N, wrong_N = np.zeros(400), np.zeros(400)
    sure_N[::2], wrong_N[[201, 303]] = 1.0, 1.0
    epsilon = anytime_epsilon(sure_N, wrong_N, 1, 1e-5, 0.05)
    at = [log_e_process(logs_by_claim(sure_N, wrong_N, 1, e, 1e-5)).max() for e in (epsilon, 9)]
    assert at[0] == pytest.approx(math.log(20), abs=1e-6) and at[1] < 1
    assert anytime_epsilon(none := np.zeros(40), none, 1, 1e-5, 0.05) == 0.0
    assert anytime_chance(np.full(40, np.nan), 0.05) == 0.0


def test_the_most_right_guesses_of_a_curve() -> None:
    assert right_at_most(gaussian_tradeoff(1.7)) == pytest.approx(norm.cdf(0.85), abs=1e-7)
    assert right_at_most(gaussian_tradeoff(1.7)) >= norm.cdf(0.85)
    q = (math.exp(2.0) + 0.01) / (1 + math.exp(2.0))
    assert right_at_most(approximate_dp_tradeoff(2.0, 0.01)) == pytest.approx(q, abs=1e-7)
