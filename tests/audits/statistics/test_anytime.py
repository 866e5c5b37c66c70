"""e-processes: their means under the claim are at most 1, exactly, and they tell what breaks it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from dpigu.audits.statistics import approximate_dp_tradeoff, gaussian_tradeoff
from dpigu.audits.statistics.anytime import (
    anytime_epsilon,
    anytime_lower,
    log_e_value,
    log_e_value_of_claim,
    right_at_most,
)
from scipy.integrate import quad
from scipy.stats import binom, multinomial, norm


@pytest.mark.parametrize("chance", [0.5, 0.68, 0.9])
@pytest.mark.parametrize("trials", [1, 7, 40])
def test_guesses_as_good_as_allowed_have_mean_one_and_worse_ones_less(
    chance: float, trials: int
) -> None:
    e = [math.exp(log_e_value(k, trials, chance)) for k in range(trials + 1)]
    assert np.dot(e, binom.pmf(range(trials + 1), trials, chance)) == pytest.approx(1, abs=1e-9)
    assert np.dot(e, binom.pmf(range(trials + 1), trials, chance - 0.1)) < 1


def test_it_is_the_integral_that_it_says() -> None:
    k, n, c = 15, 18, 0.6
    direct = quad(lambda p: (p / c) ** k * ((1 - p) / (1 - c)) ** (n - k), c, 1)[0] / (1 - c)
    assert math.exp(log_e_value(k, n, c)) == pytest.approx(direct, rel=1e-8)


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
@pytest.mark.parametrize("delta", [0.0, 0.01])
def test_randomised_response_has_mean_at_most_one_against_its_own_claim(
    epsilon: float, delta: float
) -> None:
    """The worst mechanism of the claim, guessed on both sides, or abstained from in part."""
    for guessed in (1.0, 0.3):
        right = guessed * (math.exp(epsilon) + delta) / (1 + math.exp(epsilon))
        chances = [right, guessed - right, 1 - guessed]
        mean = 0.0
        for k, w in itertools.product(range(9), repeat=2):
            if k + w <= 8:
                weight = multinomial.pmf([k, w, 8 - k - w], 8, chances)
                mean += weight * math.exp(log_e_value_of_claim(k, w, 8, epsilon, delta))
        assert mean <= 1 + 1e-9


def test_limits_are_where_the_e_value_passes_the_level() -> None:
    low = anytime_lower(80, 100, 0.05)
    assert log_e_value(80, 100, low) >= math.log(20) > log_e_value(80, 100, low + 1e-6)
    epsilon = anytime_epsilon(150, 2, 400, 1e-5, 0.05)
    at = [log_e_value_of_claim(150, 2, 400, e, 1e-5) for e in (epsilon, epsilon + 1e-6)]
    assert at[0] >= math.log(20) > at[1]
    assert anytime_epsilon(10, 10, 400, 1e-5, 0.05) == anytime_lower(0, 0, 0.05) == 0.0


def test_the_most_right_guesses_of_a_curve() -> None:
    assert right_at_most(gaussian_tradeoff(1.7)) == pytest.approx(norm.cdf(0.85), abs=1e-7)
    assert right_at_most(gaussian_tradeoff(1.7)) >= norm.cdf(0.85)
    q = (math.exp(2.0) + 0.01) / (1 + math.exp(2.0))
    assert right_at_most(approximate_dp_tradeoff(2.0, 0.01)) == pytest.approx(q, abs=1e-7)
