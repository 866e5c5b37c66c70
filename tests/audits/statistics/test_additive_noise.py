"""Observations as numbers: limits hold for honest runs and any data, and bugs pass them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dpigu.audits.canaries import Observations
from dpigu.audits.statistics import mu_to_epsilon
from dpigu.audits.statistics.additive_noise import (
    SHARES,
    epsilon_at_least,
    noise_log_e,
    reach_log_e,
)
from scipy.stats import norm

M, T, SIGMA = 200, 40, 4.0


def seen(
    seed: int, *, noise: float = 1.0, reach: float = 1.0, data: float = 0.0, rate: float = 1.0
) -> Observations:
    draw = np.random.default_rng(seed)
    coins = draw.integers(0, 2, M) == 1
    joined = coins & (draw.random((T, M)) < rate)
    steady = data * draw.choice([-1.0, 1.0], (T, M))  # large, in the direction of fresh signs
    o = reach * joined + steady + noise * SIGMA * draw.normal(size=(T, M))
    there = np.ones((T, M), dtype=bool)
    return Observations(o, there, joined, np.full(T, SIGMA), np.full(T, rate), T)


@pytest.mark.parametrize("k", [*SHARES, 0.03])
@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_a_bet_on_less_noise_has_mean_at_most_one_whatever_the_data_add(
    k: float, shift: float
) -> None:
    """E over N(shift, 1) of N(0, k²)/N(0, 1), on a grid of r."""
    r = np.linspace(-30, 30, 600_001)
    ratio = np.exp(-0.5 * r**2 * (1 / k**2 - 1)) / k
    mean = np.sum(norm.pdf(r - shift) * ratio) * (r[1] - r[0])
    assert mean <= 1 + 1e-6
    if shift == 0:
        assert mean == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("below", [0.0, 0.3, 2.0])
def test_a_bet_on_more_reach_has_mean_at_most_one_for_two_signs(below: float) -> None:
    """ξ = ±size − below, over sizes: the mixture's mean is at most 1."""
    for size in np.linspace(0.0, 40.0, 161):
        e = [math.exp(reach_log_e(np.array([s * size - below]), 100.0)) for s in (1, -1)]
        assert np.mean(e) <= 1 + 1e-12


def test_an_honest_run_is_bounded_close_to_its_epsilon_and_never_above() -> None:
    true = mu_to_epsilon(math.sqrt(T) / SIGMA, 1e-5)
    for seed in range(5):
        found = seen(seed).as_claimed(1e-5, 0.95)
        assert found is not None and found.epsilon is not None
        assert 1 <= found.noise < 1.05 and 0.7 < found.reach <= 1
        assert 0.6 * true < found.epsilon <= true


def test_data_in_the_canaries_way_weaken_the_limits_and_break_none() -> None:
    found = seen(3, data=4.0).as_claimed(1e-5, 0.95)
    assert found is not None and found.noise > 1.3 and found.reach <= 1
    assert min(seen(3, data=4.0).p_values().values()) > 0.05


@pytest.mark.parametrize(
    ("planted", "by"),
    [
        ({"noise": 0.9}, "spread"),
        ({"reach": 2.0}, "reach"),
        ({"noise": 0.9, "rate": 0.3}, "spread"),
    ],
)
def test_less_noise_and_a_looser_clip_are_contradicted(planted: dict[str, float], by: str) -> None:
    made = seen(7, **planted)
    assert made.p_values()[by] < 1e-3
    assert made.log_e() > math.log(20)


def test_a_step_without_noise_is_bet_on() -> None:
    made = seen(11)
    made.o_Tm[5] = made.joined_Tm[5]
    assert made.log_e() > 20


def test_noise_as_claimed_gains_nothing() -> None:
    made = seen(13)
    assert made.log_e() < math.log(20)
    assert noise_log_e([]) == pytest.approx(0.0)


def test_epsilon_at_least_lies_below_the_accountants() -> None:
    assert epsilon_at_least([(2.0, 1.0)] * 4, 1.0, 1e-5) == pytest.approx(mu_to_epsilon(1.0, 1e-5))
    assert epsilon_at_least([], 1.0, 1e-5) is None
