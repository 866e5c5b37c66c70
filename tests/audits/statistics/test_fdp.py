"""Trade-off curves and the f-DP one-run test: reference values, laws, and the extremes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from dpigu.audits.statistics.fdp import (
    TradeOffCurve,
    approximate_dp_tradeoff,
    f_dp_epsilon_if_gaussian,
    fdp_one_run_test,
    fdp_p_value,
    fdp_rejects,
    gaussian_delta,
    gaussian_tradeoff,
    mu_to_epsilon,
    tradeoff_from_epsilon_delta_pairs,
)
from dpigu.audits.statistics.one_run import guess_grid, one_run_epsilon
from dpigu.dpcore.errors import DpiguError
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.special import betaincinv
from scipy.stats import binom, norm

pytestmark = pytest.mark.numerical

UNIT = st.floats(0, 1)
INSIDE = st.floats(1e-6, 1 - 1e-6)  # 1 − α keeps its digits, steep as the curve is at 0
CURVES = st.one_of(
    st.builds(gaussian_tradeoff, st.floats(0, 6)),
    st.builds(approximate_dp_tradeoff, st.floats(0, 8), st.floats(0, 0.5)),
)


@st.composite
def guesses(draw: st.DrawFn, most: int = 200) -> tuple[int, int, int]:
    m = draw(st.integers(1, most))
    g = draw(st.integers(1, m))
    return m, g, draw(st.integers(0, g))


# Reference values -------------------------------------------------------------------------------


@pytest.mark.parametrize(("mu", "epsilon"), [(0.5, 1.9931), (1, 4.3772), (2, 9.9973), (3, 16.6755)])
def test_gaussian_dp_converts_to_epsilon(mu: float, epsilon: float) -> None:
    """Dong, Roth and Su 2019, corollary 2.13, at δ = 1e-5."""
    assert round(mu_to_epsilon(mu, 1e-5), 4) == epsilon


def test_estimate_of_70_right_in_80_of_100() -> None:
    """Mahloujifar, Melis and Chaudhuri 2024, algorithm 3, bisected over μ."""
    assert round(f_dp_epsilon_if_gaussian(100, 80, 70, 1e-6)[1], 4) == 3.2956


def test_estimate_passes_the_one_run_bound() -> None:
    """95 of 100 guesses, 1000 canaries, δ = 1e-5: 3.323 by f-DP, 2.165 by one-run."""
    assert round(f_dp_epsilon_if_gaussian(1000, 100, 95, 1e-5)[1], 3) == 3.323
    assert round(one_run_epsilon(1000, 100, 95, 1e-5), 3) == 2.165


def test_estimate_is_no_bound_off_the_gaussian() -> None:
    """Exact ε = 2 randomized response gives 881 of 1000; its estimate says ε ≥ 3.4."""
    _, epsilon = f_dp_epsilon_if_gaussian(1000, 1000, 881, 1e-5)
    assert round(epsilon, 1) == 3.4
    assert epsilon > 2


def test_correlated_mechanism_does_not_fool_the_recursion() -> None:
    """881 of 1000 right: μ ≥ 0.81 by the recursion, under the true 1; by i.i.d. tails 2.19."""
    assert round(f_dp_epsilon_if_gaussian(1000, 1000, 881, 0)[0], 2) == 0.81
    accuracy = betaincinv(881, 120, 0.05)  # P[Bin(1000, accuracy) ≥ 881] = 5%
    assert round(2 * float(norm.ppf(accuracy)), 2) == 2.19


# Curves -----------------------------------------------------------------------------------------


@given(CURVES, INSIDE, INSIDE, UNIT)
def test_curve_is_convex_decreasing_symmetric_and_below_perfect_privacy(
    curve: TradeOffCurve, a: float, b: float, t: float
) -> None:
    low, high = min(a, b), max(a, b)
    assert curve(low) >= curve(high) - 1e-12
    assert 0 <= curve(a) <= 1 - a + 1e-12
    assert curve(t * a + (1 - t) * b) <= t * curve(a) + (1 - t) * curve(b) + 1e-9
    if curve(a) > 1e-6:
        assert curve(curve(a)) <= a + 1e-6  # f = f⁻¹, the left inverse of a symmetric curve


@given(st.floats(0, 6), st.floats(1e-9, 1 - 1e-9))
def test_gaussian_curve_is_the_normal_shift(mu: float, alpha: float) -> None:
    """f(α) = Φ(Φ⁻¹(1 − α) − μ) (Dong, Roth and Su 2019, equation 6)."""
    expected = float(norm.cdf(norm.isf(alpha) - mu))
    assert gaussian_tradeoff(mu)(alpha) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(st.floats(0, 50), st.floats(0, 0.9), UNIT)
def test_approximate_dp_curve_is_its_three_lines(epsilon: float, delta: float, x: float) -> None:
    lines = (0, 1 - delta - math.exp(epsilon) * (1 - x), math.exp(-epsilon) * (x - delta))
    curve = approximate_dp_tradeoff(epsilon, delta)
    assert curve.inverse_blow_up(x) == pytest.approx(max(lines), rel=1e-9, abs=1e-12)
    assert curve.inverse_blow_up(x) <= x + 1e-12


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 0.9)), min_size=1, max_size=30),
    st.one_of(UNIT, st.floats(1e-12, 1e-3), st.floats(1e-12, 1e-3).map(lambda y: 1 - y)),
)
def test_profile_curve_is_the_highest_of_its_pairs(
    pairs: list[tuple[float, float]], x: float
) -> None:
    curve = tradeoff_from_epsilon_delta_pairs(pairs)
    highest = max(approximate_dp_tradeoff(e, d).inverse_blow_up(x) for e, d in pairs)
    assert curve.inverse_blow_up(x) == pytest.approx(highest, rel=1e-9, abs=1e-12)
    assert curve.inverse_blow_up(x) <= highest + 1e-12  # never optimistic


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_profile_of_a_gaussian_approaches_its_curve_from_below(mu: float) -> None:
    pairs = [(e, gaussian_delta(mu, e)) for e in np.linspace(0, 8 * mu, 400)]
    curve, exact = tradeoff_from_epsilon_delta_pairs(pairs), gaussian_tradeoff(mu)
    x = np.concatenate([np.geomspace(1e-6, 0.5, 99), 1 - np.geomspace(1e-6, 0.5, 99)])
    gaps = np.array([exact.inverse_blow_up(p) - curve.inverse_blow_up(p) for p in x])
    assert gaps.min() > -1e-12
    assert gaps.max() < 1e-3


def test_pairs_too_steep_for_floating_point_are_left_out() -> None:
    curve = tradeoff_from_epsilon_delta_pairs([(1.0, 0.0), (5000.0, 0.0)])
    assert curve(0.1) == approximate_dp_tradeoff(1.0, 0.0)(0.1)


# The recursion ----------------------------------------------------------------------------------


def plain_recursion(curve: TradeOffCurve, m: int, g: int, c: int, alpha: float) -> float:
    """r + h after every step of the algorithm, with no early end (the reference)."""
    r, h = alpha * c / m, alpha * (g - c) / m
    for i in range(c - 1, -1, -1):
        raised = max(h, curve.inverse_blow_up(min(r, 1.0)))
        r, h = r + i / (g - i) * (raised - h), raised
    return r + h


@given(CURVES, guesses(), st.floats(1e-6, 0.999))
def test_early_ends_do_not_change_the_decision(
    curve: TradeOffCurve, mgc: tuple[int, int, int], alpha: float
) -> None:
    m, g, c = mgc
    total = plain_recursion(curve, m, g, c, alpha)
    assume(abs(total * m / g - 1) > 1e-6)
    assert fdp_rejects(curve, m, g, c, alpha) == (total > g / m)


@given(st.floats(0, 3), st.floats(0, 0.3), guesses(most=12), st.floats(0.01, 0.9))
def test_recursion_solves_the_linear_programme_of_the_theorem(
    epsilon: float, delta: float, mgc: tuple[int, int, int], alpha: float
) -> None:
    """The least Σp with Σ_{j≥c} p_j ≥ α and, for every 1 ≤ i ≤ c, the theorem's inequality
    Σ_{j≥i−1} (g−j)/m·p_j ≥ B⁻¹(Σ_{j≥i} j/m·p_j), which for f_{ε,δ} is two linear ones."""
    m, g, c = mgc
    assume(c >= 1)
    curve = approximate_dp_tradeoff(epsilon, delta)
    gentle = (math.exp(-epsilon), -math.exp(-epsilon) * delta)
    steep = (math.exp(epsilon), 1 - delta - math.exp(epsilon))
    j = np.arange(g + 1)
    rows, limits = [np.where(j >= c, -1.0, 0.0)], [-alpha]
    for i in range(1, c + 1):
        right, wrong = np.where(j >= i, j / m, 0), np.where(j >= i - 1, (g - j) / m, 0)
        for slope, intercept in (gentle, steep):
            rows.append(slope * right - wrong)
            limits.append(-intercept)
    least = linprog(np.ones(g + 1), A_ub=np.array(rows), b_ub=limits).fun
    total = plain_recursion(curve, m, g, c, alpha) * m / g
    assert min(1, total) == pytest.approx(min(1, least), abs=1e-4)


def true_distributions() -> list[tuple[str, TradeOffCurve, np.ndarray]]:
    """Mechanisms on 200 bits with a known curve and a known law of the correct guesses."""
    m, k = 200, np.arange(201)
    chance, half = 1 / (1 + math.exp(-2)), binom.pmf(k, m, 0.5)
    return [
        ("randomized response", approximate_dp_tradeoff(2, 0), binom.pmf(k, m, chance)),
        ("Gaussian", gaussian_tradeoff(1), binom.pmf(k, m, float(norm.cdf(0.5)))),
        (
            "correlated",
            gaussian_tradeoff(1),
            0.162 * binom.pmf(k, m, chance) + (1 - 0.162) * half,
        ),
        ("burst of δ", approximate_dp_tradeoff(0, 0.03), 0.97 * half + 0.03 * (k == m)),
    ]


@pytest.mark.parametrize(("name", "curve", "law"), true_distributions())
def test_p_value_bounds_the_true_tail(name: str, curve: TradeOffCurve, law: np.ndarray) -> None:
    """No sampling: P[C ≥ c] ≤ p(c) for every count c, so that P[p(C) ≤ a] ≤ a at every level."""
    m = len(law) - 1
    tails = np.cumsum(law[::-1])[::-1]
    p = np.array([fdp_p_value(curve, m, m, int(c)) for c in range(m + 1)])
    assert (tails <= p * (1 + 1e-6) + 1e-12).all(), name


def test_one_right_guess_too_many_would_break_the_bound() -> None:
    """The law above can fail: on randomized response a count that is one too high breaks it."""
    _, curve, law = true_distributions()[0]
    m = len(law) - 1
    tails = np.cumsum(law[::-1])[::-1]
    p = np.array([fdp_p_value(curve, m, m, c + 1) for c in range(m)])
    assert (tails[:m] > 10 * p).any()


@given(st.floats(0, 4), st.floats(0, 2), guesses(), st.floats(1e-4, 0.5), st.floats(1, 2))
def test_rejection_is_monotone_in_the_level_and_the_curve(
    mu: float, more: float, mgc: tuple[int, int, int], alpha: float, factor: float
) -> None:
    if fdp_rejects(gaussian_tradeoff(mu + more), *mgc, alpha):
        assert fdp_rejects(gaussian_tradeoff(mu), *mgc, alpha)
        assert fdp_rejects(gaussian_tradeoff(mu + more), *mgc, min(0.999, alpha * factor))


@given(CURVES, guesses())
def test_p_value_is_the_least_rejected_level(
    curve: TradeOffCurve, mgc: tuple[int, int, int]
) -> None:
    p = fdp_p_value(curve, *mgc)
    assert 1e-12 <= p <= 1
    if p < 1:
        assert fdp_rejects(curve, *mgc, p)
    if p > 1e-11:
        assert not fdp_rejects(curve, *mgc, 0.999 * p)


@pytest.mark.parametrize("delta", [1e-8, 1e-5, 1e-3])
def test_perfect_guesses_are_no_rarer_than_delta(delta: float) -> None:
    """A (0, δ) mechanism may reveal everything with probability δ: p is δ exactly."""
    curve = approximate_dp_tradeoff(1.0, delta)
    assert fdp_p_value(curve, 10_000, 10_000, 10_000) == pytest.approx(delta, rel=1e-6)


# Tests on scores --------------------------------------------------------------------------------


def test_grid_divides_the_level_and_names_the_curve() -> None:
    rng = np.random.default_rng(0)
    coins = rng.integers(0, 2, 500)
    scores = 3 * coins + rng.normal(size=500)
    grid = guess_grid(500)
    result = fdp_one_run_test(gaussian_tradeoff(0.5), scores, coins, grid)
    assert result.curve == "0.5-GDP"
    assert [row.guesses for row in result.rows] == list(grid)
    assert result.p_value == len(grid) * min(row.p_value for row in result.rows) < 0.05
    for row in result.rows:
        assert row.p_value == fdp_p_value(gaussian_tradeoff(0.5), 500, row.guesses, row.correct)
    assert fdp_one_run_test(gaussian_tradeoff(3.0), scores, coins, grid).p_value > 0.05


# Extremes and errors ----------------------------------------------------------------------------


@given(st.floats(1e-3, 50), st.sampled_from([1e-12, 1e-5, 0.1]))
def test_conversion_solves_its_equation(mu: float, delta: float) -> None:
    epsilon = mu_to_epsilon(mu, delta)
    assert gaussian_delta(mu, epsilon) <= delta
    if epsilon > 0:
        assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-6)
        first = norm.cdf(-epsilon / mu + mu / 2)
        second = math.exp(epsilon + norm.logcdf(-epsilon / mu - mu / 2))
        assert first - second == pytest.approx(delta, rel=1e-4, abs=1e-14)


def test_conversion_at_its_ends() -> None:
    assert mu_to_epsilon(0, 0) == 0
    assert mu_to_epsilon(1, 0) == math.inf
    assert mu_to_epsilon(1e-6, 1e-5) == 0
    assert math.isfinite(mu_to_epsilon(200, 1e-12))


@pytest.mark.parametrize("correct", [0, 1, 500_000, 505_000, 881_000, 1_000_000])
def test_a_million_guesses_give_a_number_in_range(correct: int) -> None:
    mu, epsilon = f_dp_epsilon_if_gaussian(1_000_000, 1_000_000, correct, 1e-12)
    assert 0 <= mu < 5
    assert 0 <= epsilon < 50


@pytest.mark.parametrize("correct", [50_500, 51_000, 70_000, 100_000])
def test_estimate_for_100_000_canaries_takes_under_five_seconds(correct: int) -> None:
    start = time.process_time()
    f_dp_epsilon_if_gaussian(100_000, 100_000, correct, 1e-5)
    fdp_p_value(approximate_dp_tradeoff(0.01, 1e-5), 100_000, 100_000, correct)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gaussian_tradeoff(-1), "μ must be"),
        (lambda: gaussian_tradeoff(math.nan), "μ must be"),
        (lambda: approximate_dp_tradeoff(-1, 0), "ε must be"),
        (lambda: approximate_dp_tradeoff(1, 1.0), "δ must lie"),
        (lambda: tradeoff_from_epsilon_delta_pairs([]), "at least one"),
        (lambda: fdp_rejects(gaussian_tradeoff(1), 10, 11, 3, 0.05), "guesses ≤ canaries"),
        (lambda: fdp_rejects(gaussian_tradeoff(1), 10, 8, 9, 0.05), "correct ≤ guesses"),
        (lambda: fdp_rejects(gaussian_tradeoff(1), 10, 8, 7, 0.0), "α must lie"),
        (lambda: f_dp_epsilon_if_gaussian(10, 8, 7, 1.0), "δ must lie"),
        (lambda: f_dp_epsilon_if_gaussian(10, 8, 7, 0.1, 1.0), "confidence must lie"),
        (lambda: mu_to_epsilon(1, -0.1), "δ must lie"),
    ],
)
def test_impossible_input_is_one_clear_line(call: object, words: str) -> None:
    with pytest.raises(DpiguError, match=words) as caught:
        call()  # type: ignore[operator]  # a lambda of the table above
    assert "\n" not in str(caught.value)
