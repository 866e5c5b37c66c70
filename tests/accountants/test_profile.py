"""A profile is the exact one of a Gaussian, and bounds the power of every test."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from dp_accounting import GaussianDpEvent
from dpigu.accountants.base import rounded_up
from dpigu.accountants.profile import most_true_positives, privacy_profile
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

SIGMA = st.floats(0.3, 10.0)


@given(sigma=SIGMA)
def test_the_profile_of_a_gaussian_is_the_analytic_one(sigma: float) -> None:
    for delta, epsilon in privacy_profile(GaussianDpEvent(sigma)):
        mu = 1 / sigma
        low, high = -epsilon / mu - mu / 2, -epsilon / mu + mu / 2
        exact = norm.cdf(high) - math.exp(epsilon) * norm.cdf(low)
        assert exact <= delta
        if epsilon > 0:
            assert exact == pytest.approx(delta, rel=0.05)


@given(sigma=SIGMA, rate=st.floats(1e-4, 0.5))
def test_the_best_test_stays_within_the_bound(sigma: float, rate: float) -> None:
    """The likelihood-ratio test of a Gaussian has power Φ(Φ⁻¹(α) + 1/σ) (Neyman and Pearson)."""
    power = norm.cdf(norm.ppf(rate) + 1 / sigma)
    bound = most_true_positives(privacy_profile(GaussianDpEvent(sigma)), rate)
    assert power <= bound <= 1


def test_nothing_known_bounds_nothing() -> None:
    assert most_true_positives([], 0.01) == 1.0
    assert most_true_positives([(1e-5, 0.0)], 0.01) == pytest.approx(0.01 + 1e-5)
    assert most_true_positives([(1e-5, 1e4)], 0.01) == 1.0


@given(epsilon=st.floats(0, 1e6), decimals=st.integers(0, 6))
def test_what_is_shown_of_epsilon_is_never_below_it(epsilon: float, decimals: int) -> None:
    shown = Fraction(rounded_up(epsilon, decimals))
    assert 0 <= shown - Fraction(epsilon) < Fraction(1, 10**decimals)
