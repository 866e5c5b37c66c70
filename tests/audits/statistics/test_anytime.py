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
    gains_by_chance,
    gains_by_claim,
    log_e_process,
    right_at_most,
)
from scipy.stats import norm


def mean_of(gains_O: Reals, chances_O: list[float], trials: int) -> float:
    """The mean of E over all sequences of outcomes, one term each."""
    weights, logs = [], []
    for sequence in itertools.product(range(len(gains_O)), repeat=trials):
        weights.append(math.prod(chances_O[i] for i in sequence))
        logs.append(float(log_e_process(gains_O[list(sequence)])[-1]))
    return float(np.dot(weights, np.exp(logs)))


@pytest.mark.parametrize("chance", [0.5, 0.68, 0.9])
def test_guesses_as_good_as_allowed_have_mean_one_and_worse_ones_less(chance: float) -> None:
    gains_O = gains_by_chance(np.array([0.0, 1.0]), chance)
    assert mean_of(gains_O, [1 - chance, chance], 7) == pytest.approx(1, abs=1e-12)
    assert mean_of(gains_O, [1.1 - chance, chance - 0.1], 7) < 1
    assert mean_of(gains_O, [0.9 - chance, chance + 0.1], 7) > 1


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
@pytest.mark.parametrize("delta", [0.0, 0.01])
def test_randomised_response_has_mean_at_most_one_against_its_own_claim(
    epsilon: float, delta: float
) -> None:
    """The worst mechanism of the claim, guessed on both sides, or abstained from in part."""
    outcomes = np.array([1.0, 0, 0]), np.array([0.0, 1, 0])
    gains_O = gains_by_claim(*outcomes, epsilon, delta)
    for guessed in (1.0, 0.3):
        right = guessed * (math.exp(epsilon) + delta) / (1 + math.exp(epsilon))
        assert mean_of(gains_O, [right, guessed - right, 1 - guessed], 6) <= 1 + 1e-12


def test_targets_that_leak_together_have_mean_at_most_one_and_apart_tell_more() -> None:
    """Of ten targets all are told at once, at the claim's own odds; or each by itself, at more."""
    right, n, epsilon = math.e / (1 + math.e), 200, 1.0
    together = gains_by_claim(np.array([1.0, 0]), np.array([0.0, 1]), epsilon, 0.0)
    assert mean_of(together, [right, 1 - right], 8) <= 1 + 1e-12
    apart_N = np.random.default_rng(0).binomial(10, 0.8, n) / 10
    one_N = np.random.default_rng(0).binomial(1, 0.8, n).astype(float)
    found = [
        log_e_process(gains_by_claim(share_N, 1 - share_N, epsilon, 0.0))[-1]
        for share_N in (one_N, apart_N)
    ]
    assert found[1] > 3 * max(found[0], 1)


def test_rules_share_the_stake() -> None:
    one, none = np.full(50, 0.4), np.zeros(50)
    both = log_e_process(np.stack([one, none]))
    alone = np.exp(log_e_process(one))
    np.testing.assert_allclose(np.exp(both), (alone + 1) / 2)


def test_limits_are_where_the_e_value_passes_the_level() -> None:
    right_N = np.array([1.0] * 80 + [0.0] * 20)
    low = anytime_chance(right_N, 0.05)
    best = [log_e_process(gains_by_chance(right_N, c)).max() for c in (low, low + 1e-6)]
    assert best[0] >= math.log(20) > best[1]
    sure_N, wrong_N = np.zeros(400), np.zeros(400)
    sure_N[::2], wrong_N[[201, 303]] = 1.0, 1.0
    epsilon = anytime_epsilon(sure_N, wrong_N, 1e-5, 0.05)
    at = [log_e_process(gains_by_claim(sure_N, wrong_N, e, 1e-5)).max() for e in (epsilon, 9)]
    assert at[0] == pytest.approx(math.log(20), abs=1e-6) and at[1] < 1
    assert anytime_epsilon(none := np.zeros(40), none, 1e-5, 0.05) == 0.0
    assert anytime_chance(np.full(40, np.nan), 0.05) == 0.0


def test_the_most_right_guesses_of_a_curve() -> None:
    assert right_at_most(gaussian_tradeoff(1.7)) == pytest.approx(norm.cdf(0.85), abs=1e-7)
    assert right_at_most(gaussian_tradeoff(1.7)) >= norm.cdf(0.85)
    q = (math.exp(2.0) + 0.01) / (1 + math.exp(2.0))
    assert right_at_most(approximate_dp_tradeoff(2.0, 0.01)) == pytest.approx(q, abs=1e-7)
