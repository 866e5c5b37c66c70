"""One-run and Clopper-Pearson bounds: reference values, laws, and the extremes."""

from __future__ import annotations

import math
import time
from typing import cast

import numpy as np
import pytest
from dpigu.audits.statistics.clopper_pearson import clopper_pearson_epsilon, clopper_pearson_limits
from dpigu.audits.statistics.one_run import (
    bonferroni,
    count_correct,
    guess_grid,
    one_run_ceiling,
    one_run_epsilon,
    one_run_p_value,
    one_run_test,
)
from dpigu.dpcore.errors import DpiguError
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from scipy.stats import binom

pytestmark = pytest.mark.numerical

LEVEL = 1 - 0.95


def summed_p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """The theorem read literally: every window summed, nothing bisected (the reference)."""
    q = 1 / (1 + math.exp(-epsilon))
    windows = np.cumsum(binom.pmf(v - np.arange(1, v + 1), r, q)) / np.arange(1, v + 1)
    return min(1.0, float(binom.sf(v - 1, r, q)) + 2 * m * delta * float(max(windows, default=0.0)))


@st.composite
def counts(draw: st.DrawFn, most: int = 300) -> tuple[int, int, int]:
    m = draw(st.integers(1, most))
    r = draw(st.integers(0, m))
    return m, r, draw(st.integers(0, r))


epsilons = st.floats(0, 50, allow_nan=False)
deltas = st.one_of(st.just(0.0), st.floats(1e-12, 0.5))


# Reference values -------------------------------------------------------------------------------


def test_one_run_p_value_of_75_right_in_100_at_log_3() -> None:
    """P[Bin(100, 3/4) ≥ 75] (Steinke, Nasr and Jagielski 2023, Theorem 5.2 at δ = 0)."""
    assert round(one_run_p_value(100, 100, 75, math.log(3), 0), 4) == 0.5535


@pytest.mark.parametrize(("delta", "epsilon"), [(0, 0.7022), (1e-4, 0.6995)])
def test_one_run_bound_of_75_right_in_100(delta: float, epsilon: float) -> None:
    """Steinke, Nasr and Jagielski 2023, Theorem 5.2, inverted by hand-written sums."""
    assert round(one_run_epsilon(100, 100, 75, delta), 4) == epsilon


def test_one_run_bound_of_the_published_cifar_audit() -> None:
    """Steinke et al. 2023, section 6: 1439 of 1510 guesses, 100,000 canaries; they print 2.675.

    In 40-digit arithmetic the bound is 2.675851: 2.6758 to the digits that a lower bound may keep.
    """
    bound = one_run_epsilon(100_000, 1510, 1439, 1e-5)
    assert math.floor(bound * 1e4) / 1e4 == 2.6758
    assert bound == pytest.approx(2.675851, abs=1e-6)


@pytest.mark.parametrize(
    ("m", "delta", "ceiling"),
    [
        (100, 0, 3.493),
        (1000, 0, 5.809),
        (10_000, 0, 8.113),
        (1000, 1e-5, 5.782),
        (10_000, 1e-5, 7.834),
    ],
)
def test_one_run_ceiling_of_perfect_guesses(m: int, delta: float, ceiling: float) -> None:
    """At δ = 0 the ceiling solves (e^ε/(1+e^ε))^m = 0.05 (Steinke et al. 2023, Theorem 5.2)."""
    assert round(one_run_ceiling(m, m, delta), 3) == ceiling
    if delta == 0:
        q = 0.05 ** (1 / m)
        assert one_run_ceiling(m, m, 0) == pytest.approx(math.log(q / (1 - q)), abs=1e-8)


def test_clopper_pearson_of_500_perfect_trials_a_side() -> None:
    """ln((1 − x)/x) with x = 1 − 0.005^{1/500} (Nasr et al. 2021, "Adversary Instantiation")."""
    assert round(clopper_pearson_epsilon(0, 500, 0, 500, 0, confidence=0.99), 4) == 4.5419


@pytest.mark.parametrize(("trials", "ceiling"), [(100, 3.281), (1000, 5.601)])
def test_clopper_pearson_ceiling(trials: int, ceiling: float) -> None:
    """ln((1 − x)/x) with x = 1 − 0.025^{1/n}."""
    assert round(clopper_pearson_epsilon(0, trials, 0, trials, 0), 3) == ceiling


# Laws of the one-run p-value --------------------------------------------------------------------


@given(counts(), epsilons, deltas)
def test_p_value_equals_the_summed_theorem(
    mrv: tuple[int, int, int], epsilon: float, delta: float
) -> None:
    assert one_run_p_value(*mrv, epsilon, delta) == pytest.approx(
        summed_p_value(*mrv, epsilon, delta), rel=1e-9, abs=1e-12
    )


@given(counts(), epsilons, st.floats(0, 5), deltas)
def test_p_value_never_falls_as_the_claim_grows(
    mrv: tuple[int, int, int], epsilon: float, more: float, delta: float
) -> None:
    smaller = one_run_p_value(*mrv, epsilon, delta)
    assert smaller <= one_run_p_value(*mrv, epsilon + more, delta) + 1e-12


@given(counts(), epsilons, deltas)
def test_p_value_never_falls_as_delta_or_abstentions_grow(
    mrv: tuple[int, int, int], epsilon: float, delta: float
) -> None:
    m, r, v = mrv
    p = one_run_p_value(m, r, v, epsilon, delta)
    assert p <= one_run_p_value(2 * m, r, v, epsilon, delta)
    assert p <= one_run_p_value(m, r, v, epsilon, min(0.9, 2 * delta))


@given(counts(), deltas, st.floats(0.5, 0.999))
def test_bound_is_the_largest_rejected_epsilon(
    mrv: tuple[int, int, int], delta: float, confidence: float
) -> None:
    bound = one_run_epsilon(*mrv, delta, confidence)
    if bound > 0:
        assert one_run_p_value(*mrv, bound, delta) < 1 - confidence
    assert one_run_p_value(*mrv, bound + 1e-8, delta) >= (1 - confidence) * (1 - 1e-6)


@pytest.mark.parametrize(("m", "epsilon"), [(20, 0.0), (20, 1.0), (200, 0.5), (500, 2.0)])
def test_exact_randomized_response_is_rejected_at_most_at_the_level(m: int, epsilon: float) -> None:
    """No sampling: the chance of p < 5% summed over all counts is at most 5%, and not much less.

    Counting P[Bin > v] for P[Bin ≥ v] would reject more often than 5% at each of these sizes.
    """
    v = np.arange(m + 1)
    q = 1 / (1 + math.exp(-epsilon))
    chance = binom.pmf(v, m, q)
    p = np.array([one_run_p_value(m, m, int(k), epsilon, 0) for k in v])
    assert LEVEL / 4 < chance[p < LEVEL].sum() <= LEVEL
    assert chance[binom.sf(v, m, q) < LEVEL].sum() > LEVEL


@pytest.mark.parametrize("revealed", [1, 5, 20, 100])
def test_burst_that_spends_delta_is_rejected_at_most_at_the_level(revealed: int) -> None:
    """A (0, δ) mechanism: with probability mδ/i it reveals i of the bits, else nothing.

    No sampling. Counting r for m in 2mδA would reject bursts of 5 or 20 bits too often.
    """
    m, burst = 1000, 0.2
    delta = burst * revealed / m
    v = np.arange(revealed + 1)
    chance = (1 - burst) * binom.pmf(v, revealed, 0.5) + burst * (v == revealed)
    p = np.array([one_run_p_value(m, revealed, int(k), 0, delta) for k in v])
    assert chance[p < LEVEL].sum() <= LEVEL
    if revealed in (5, 20):
        wrong = [one_run_p_value(revealed, revealed, int(k), 0, delta) for k in v]
        assert chance[np.array(wrong) < LEVEL].sum() > LEVEL


# Extremes and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("v", [0, 1, 500_000, 999_999, 1_000_000])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 12.0, 50.0])
@pytest.mark.parametrize("delta", [0.0, 1e-12, 1e-5])
def test_a_million_guesses_give_a_number_in_range(v: int, epsilon: float, delta: float) -> None:
    m = 1_000_000
    assert 0 < one_run_p_value(m, m, v, epsilon, delta) <= 1
    bound = one_run_epsilon(m, m, v, delta)
    assert 0 <= bound < 13
    assert one_run_p_value(m, m, v, bound, delta) < LEVEL or bound == 0


def test_tail_keeps_its_digits_where_q_rounds_to_one() -> None:
    """q^m at ε = 40, where q = 1/(1 + e^{-40}) is 1 in floating point, and its inverse."""
    m = 1_000_000
    assert 1 - one_run_p_value(m, m, m, 40, 0) == pytest.approx(m * math.exp(-40), rel=1e-4)
    miss = -math.expm1(math.log(0.05) / m)
    assert one_run_epsilon(m, m, m, 0) == pytest.approx(math.log((1 - miss) / miss), abs=1e-9)


def test_no_right_guess_shows_nothing() -> None:
    assert one_run_p_value(10, 10, 0, 0, 0) == 1
    assert one_run_p_value(10, 0, 0, 0, 0.1) == 1
    assert one_run_epsilon(10, 10, 0, 0) == one_run_epsilon(10, 0, 0, 0) == 0


def test_bound_for_100_000_canaries_takes_under_a_fifth_of_a_second() -> None:
    one_run_epsilon(1000, 1000, 700, 1e-5)
    start = time.process_time()
    one_run_epsilon(100_000, 100_000, 70_000, 1e-5)
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: one_run_p_value(10, 8, 9, 1, 0), "correct ≤ guesses"),
        (lambda: one_run_p_value(10, 11, 9, 1, 0), "guesses ≤ canaries"),
        (lambda: one_run_p_value(10, 8, -1, 1, 0), "0 ≤ correct"),
        (lambda: one_run_p_value(10, 8, cast(int, 7.5), 1, 0), "whole number"),
        (lambda: one_run_p_value(10, 8, 7, -1, 0), "ε must be"),
        (lambda: one_run_p_value(10, 8, 7, math.nan, 0), "ε must be"),
        (lambda: one_run_p_value(10, 8, 7, math.inf, 0), "ε must be"),
        (lambda: one_run_epsilon(10, 8, 7, 1.0), "δ must lie"),
        (lambda: one_run_epsilon(10, 8, 7, -1e-9), "δ must lie"),
        (lambda: one_run_epsilon(10, 8, 7, 0, confidence=1.0), "confidence must lie"),
        (lambda: one_run_epsilon(10, 8, 7, 0, confidence=0.0), "confidence must lie"),
        (lambda: clopper_pearson_epsilon(6, 5, 0, 5, 0), "false positives ≤ non members"),
        (lambda: clopper_pearson_epsilon(0, 5, 6, 5, 0), "false negatives ≤ members"),
        (lambda: clopper_pearson_epsilon(0, 0, 0, 5, 0), "a trial a side"),
        (lambda: clopper_pearson_epsilon(0, 5, 0, 5, 1.0), "δ must lie"),
        (lambda: guess_grid(0), "needs a canary"),
        (lambda: one_run_test([0.1, math.nan], [0, 1], (1,), 1, 0), "NaN"),
        (lambda: one_run_test([0.1, 0.2], [0, 2], (1,), 1, 0), "0 or 1"),
        (lambda: one_run_test([0.1, 0.2], [0, 1, 1], (1,), 1, 0), "pair up"),
        (lambda: one_run_test([0.1, 0.2], [0, 1], (1, 3), 1, 0), "outside the canaries"),
        (lambda: one_run_test([0.1, 0.2], [0, 1], (), 1, 0), "must rise"),
        (lambda: one_run_test([0.1, 0.2], [0, 1], (1, 1), 1, 0), "must rise"),
    ],
)
def test_impossible_input_is_one_clear_line(call: object, words: str) -> None:
    with pytest.raises(DpiguError, match=words) as caught:
        call()  # type: ignore[operator]  # a lambda of the table above
    assert "\n" not in str(caught.value)


# Clopper-Pearson --------------------------------------------------------------------------------


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0.5, 0.999))
def test_clopper_pearson_limit_is_the_rate_at_which_so_few_errors_are_rare(
    trials: int, share: float, confidence: float
) -> None:
    """P[Bin(n, FP̄) ≤ FP] = a/2, which is the defining equation; the quantile of Beta as well."""
    errors = round(share * trials)
    limit, _ = clopper_pearson_limits(errors, trials, 0, trials, confidence)
    tail = (1 - confidence) / 2
    if errors == trials:
        assert limit == 1
    else:
        assert binom.cdf(errors, trials, limit) == pytest.approx(tail, rel=1e-6)
        quantile = beta_distribution.ppf(1 - tail, errors + 1, trials - errors)
        assert limit == pytest.approx(quantile, rel=1e-9)


def test_clopper_pearson_takes_the_better_direction_and_charges_delta() -> None:
    rare_false_positives = clopper_pearson_epsilon(0, 1000, 800, 1000, 0)
    assert rare_false_positives == clopper_pearson_epsilon(800, 1000, 0, 1000, 0) > 3
    assert clopper_pearson_epsilon(0, 1000, 800, 1000, 0.1) < rare_false_positives
    assert clopper_pearson_epsilon(500, 1000, 500, 1000, 0) == 0


# From scores to guesses -------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.floats(-9, 9), st.booleans()),
        min_size=1,
        max_size=60,
        unique_by=lambda p: p[0],
    ),
    st.data(),
)
def test_correct_guesses_are_counted_from_both_ends(
    pairs: list[tuple[float, bool]], data: st.DataObject
) -> None:
    scores = np.array([score for score, _ in pairs])
    coins = np.array([coin for _, coin in pairs])
    r = data.draw(st.integers(1, len(pairs)))
    order = np.argsort(scores)
    bottom, top = order[: r - r // 2], order[len(pairs) - r // 2 :]
    expected = int((~coins[bottom]).sum() + coins[top].sum())
    assert count_correct(scores, coins, (r,)) == (expected,)


@pytest.mark.parametrize("arrangement", ["members first", "members last", "alternating"])
def test_equal_scores_show_nothing_however_the_file_is_sorted(arrangement: str) -> None:
    """Ordering ties by position would call every guess right on a file sorted by membership."""
    m = 2000
    place = np.arange(m)
    coins = {
        "members first": place < m // 2,
        "members last": place >= m // 2,
        "alternating": place % 2 == 0,
    }[arrangement]
    result = one_run_test(np.zeros(m), coins, guess_grid(m), 0.0, 0.0)
    assert result.lower_bound == 0
    assert result.p_value > 0.5


@given(st.integers(1, 10**6), st.integers(1, 20))
def test_grid_rises_geometrically_to_all_canaries(m: int, points: int) -> None:
    grid = guess_grid(m, points)
    assert grid[-1] == m
    assert 1 <= len(grid) <= points
    assert list(grid) == sorted(set(grid))
    assert grid[0] == min(m, 10) or points == 1


def test_default_grid_has_about_twelve_points() -> None:
    assert guess_grid(1000) == (10, 15, 23, 35, 53, 81, 123, 187, 285, 433, 658, 1000)


# The test over a grid ---------------------------------------------------------------------------


def leaky(m: int, leak: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    coins = rng.integers(0, 2, m)
    return leak * coins + rng.normal(size=m), coins


@pytest.mark.parametrize("delta", [0.0, 1e-5])
@pytest.mark.parametrize("seed", range(5))
def test_grid_divides_the_confidence_among_its_points(delta: float, seed: int) -> None:
    scores, coins = leaky(400, 2.0, seed)
    grid = guess_grid(400)
    result = one_run_test(scores, coins, grid, 0.5, delta)
    singles = [one_run_p_value(400, r.guesses, r.correct, 0.5, delta) for r in result.rows]
    assert [row.p_value for row in result.rows] == pytest.approx(singles, rel=1e-12)
    assert result.p_value == bonferroni(singles) == min(1, len(grid) * min(singles))
    divided = 1 - LEVEL / len(grid)
    bounds = [one_run_epsilon(400, r.guesses, r.correct, delta, divided) for r in result.rows]
    assert result.lower_bound == pytest.approx(max(bounds), abs=1e-9)
    ceilings = [one_run_ceiling(400, r, delta, divided) for r in grid]
    assert result.ceiling == pytest.approx(max(ceilings), abs=1e-9)
    assert result.lower_bound <= result.ceiling


@pytest.mark.parametrize("delta", [0.0, 1e-5])
@pytest.mark.parametrize("seed", range(5))
def test_claim_is_rejected_exactly_below_the_lower_bound(delta: float, seed: int) -> None:
    scores, coins = leaky(400, 2.0, seed)
    grid = guess_grid(400)
    bound = one_run_test(scores, coins, grid, 0.0, delta).lower_bound
    assert bound > 0.1
    assert one_run_test(scores, coins, grid, bound - 1e-6, delta).p_value < LEVEL
    assert one_run_test(scores, coins, grid, bound + 1e-6, delta).p_value >= LEVEL


def test_infinite_scores_are_ordered_like_others() -> None:
    assert count_correct([math.inf, -math.inf, 0.0], [1, 0, 0], (1, 2)) == (1, 2)
