"""Valid lower bounds on ε from the counts of one run with independent coins.

Every p-value here bounds, under the claim, the probability of evidence at least this strong,
whatever the model, its correlations and its score. Nothing is fitted and nothing is assumed of
the scores; what is assumed of the coins or trials stands in each docstring.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from dpigu.dpcore import DataError
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betainccinv, expit

GuessGrid: TypeAlias = tuple[int, ...]
Counts: TypeAlias = NDArray[np.int64]
Reals: TypeAlias = NDArray[np.float64]

_FEWEST_GUESSES = 10
_GOLDEN_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴/φ, made odd
_HALVINGS = 40  # a bracket below 50 shrinks under 1e-10


def one_run_p_value(
    canaries: int, guesses: int, correct: int, epsilon: float, delta: float
) -> float:
    """p-value of "the mechanism is (ε, δ)-DP" after `correct` of `guesses` right, in one run.

    q = e^ε/(1+e^ε), β = P[Bin(r, q) ≥ v], A = max_{1≤i≤v} P[v−i ≤ Bin(r, q) < v]/i,
    p = min(1, β + 2mδA), which never falls as ε rises: each of the terms under the maximum is
    unimodal in ε and tends to 1.

    Args: m = `canaries` independent fair coins, abstentions included; r = `guesses`;
        v = `correct`. An underflow is given as the smallest normal float, never as 0.
    Raises: DataError for counts that cannot be, ε < 0, or δ outside [0, 1).
    Source: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run",
        Theorem 5.2.
    """
    v, r, m = check_counts(correct=correct, guesses=guesses, canaries=canaries)
    check_claim(epsilon, delta)
    return float(_p_values(m, np.array([r]), np.array([v]), np.array([epsilon]), delta)[0])


def one_run_epsilon(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95
) -> float:
    """The largest ε that one run's guesses reject at this δ: sup {ε : p(ε) < 1 − confidence}.

    Zero where nothing is rejected; found from below, to 1e-10, so that the value itself is
    rejected. Arguments, errors and source as `one_run_p_value`; confidence in (0, 1).
    """
    v, r, m = check_counts(correct=correct, guesses=guesses, canaries=canaries)
    check_claim(0.0, delta)
    check_confidence(confidence)
    return float(_epsilons(m, np.array([r]), np.array([v]), delta, 1 - confidence)[0])


def one_run_ceiling(canaries: int, guesses: int, delta: float, confidence: float = 0.95) -> float:
    """The ε that `one_run_epsilon` would give if every guess were right: a design's ceiling."""
    return one_run_epsilon(canaries, guesses, guesses, delta, confidence)


def guess_grid(canaries: int, points: int = 12) -> GuessGrid:
    """About `points` guess counts, rising geometrically from 10 to m; fixed before training."""
    m, points = _index(canaries, "canaries"), _index(points, "points")
    if m < 1 or points < 1:
        raise DataError("a guess grid needs a canary and a point", got=(m, points))
    first = min(m, _FEWEST_GUESSES) if points > 1 else m
    return tuple(sorted({round(r) for r in np.geomspace(first, m, points)}))


@dataclass(frozen=True, kw_only=True)
class OneRunRow:
    """One grid point: its p-value at the claim, undivided, and its bound and ceiling, divided."""

    guesses: int
    correct: int
    p_value: float
    lower_bound: float
    ceiling: float


@dataclass(frozen=True, kw_only=True)
class OneRunResult:
    """The one-run test over a grid: `p_value` at the claim, `lower_bound` and `ceiling` of ε.

    p_value < 1 − confidence exactly where epsilon < lower_bound (to 1e-10).
    """

    canaries: int
    epsilon: float
    delta: float
    confidence: float
    p_value: float
    lower_bound: float
    ceiling: float
    rows: tuple[OneRunRow, ...]


def one_run_test(
    scores: ArrayLike,
    coins: ArrayLike,
    grid: Sequence[int],
    epsilon: float,
    delta: float,
    confidence: float = 0.95,
) -> OneRunResult:
    """Test (ε, δ) on canaries' scores at every guess count of a grid fixed beforehand.

    The confidence is divided equally among the grid's points (Bonferroni). Guesses as in
    `count_correct`; p-values and bounds as `one_run_p_value` and `one_run_epsilon`.

    Args: scores of shape (m,), high for "in"; coins of shape (m,), 1 where the canary is in.
    Raises: DataError for NaN scores, coins other than 0 and 1, or a grid that cannot be.
    """
    check_claim(epsilon, delta)
    check_confidence(confidence)
    v = np.array(count_correct(scores, coins, grid))
    m, r, level = np.size(coins), np.array(grid), (1 - confidence) / len(grid)
    p_values = _p_values(m, r, v, np.full(len(r), float(epsilon)), delta)
    bounds, ceilings = _epsilons(m, r, v, delta, level), _epsilons(m, r, r, delta, level)
    columns = zip(r, v, p_values, bounds, ceilings, strict=True)
    return OneRunResult(
        canaries=m,
        epsilon=float(epsilon),
        delta=float(delta),
        confidence=confidence,
        p_value=bonferroni(p_values.tolist()),
        lower_bound=float(bounds.max()),
        ceiling=float(ceilings.max()),
        rows=tuple(
            OneRunRow(
                guesses=int(guesses),
                correct=int(correct),
                p_value=float(p),
                lower_bound=float(bound),
                ceiling=float(ceiling),
            )
            for guesses, correct, p, bound, ceiling in columns
        ),
    )


def count_correct(scores: ArrayLike, coins: ArrayLike, grid: Sequence[int]) -> tuple[int, ...]:
    """Correct guesses for each r of the grid: the top ⌊r/2⌋ scores "in", the bottom ⌈r/2⌉ "out".

    Equal scores are ordered by the golden-ratio sequence of their positions: a public rule that
    spreads any run of positions evenly, so that a file sorted by membership gains nothing.
    """
    s_m, in_m = np.asarray(scores, dtype=np.float64), np.asarray(coins)
    if s_m.ndim != 1 or s_m.shape != in_m.shape:
        raise DataError("scores and coins must pair up", got=s_m.shape, expected=in_m.shape)
    if np.isnan(s_m).any():
        raise DataError(
            "scores must not be NaN",
            got=f"{int(np.isnan(s_m).sum())} NaN of {s_m.size}",
            remedy="Give a canary that has no score the lowest one, for all canaries alike.",
        )
    if not np.isin(in_m, (0, 1)).all():
        raise DataError("coins must be 0 or 1", got=np.unique(in_m)[:5].tolist())
    for r in grid:
        if not 1 <= _index(r, "grid") <= s_m.size:
            raise DataError("a guess count outside the canaries", got=r, expected=f"1..{s_m.size}")
    if len(grid) == 0 or any(a >= b for a, b in zip(grid, list(grid)[1:], strict=False)):
        raise DataError("the guess grid must rise and not be empty", got=tuple(grid))
    with np.errstate(over="ignore"):
        spread_m = np.arange(s_m.size, dtype=np.uint64) * _GOLDEN_STEP
    in_sorted = in_m[np.lexsort((spread_m, s_m))].astype(np.int64)
    ins_below = np.concatenate(([0], np.cumsum(in_sorted)))  # "in" among the k lowest scores
    r_n = np.array(grid, dtype=np.int64)
    top, bottom = r_n // 2, r_n - r_n // 2
    ins_on_top = ins_below[-1] - ins_below[s_m.size - top]
    return tuple((ins_on_top + bottom - ins_below[bottom]).tolist())


def bonferroni(p_values: Sequence[float]) -> float:
    """One p-value for several tests that may each decide: min(1, n · min p)."""
    return min(1.0, len(p_values) * min(p_values))


def check_claim(epsilon: float, delta: float) -> None:
    """Refuse an ε that is negative or not finite, and a δ outside [0, 1)."""
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise DataError("ε must be finite and not negative", where="epsilon", got=epsilon)
    if not 0 <= delta < 1:
        raise DataError("δ must lie in [0, 1)", where="delta", got=delta)


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1)."""
    if not 0 < confidence < 1:
        raise DataError("a confidence must lie in (0, 1)", where="confidence", got=confidence)


def check_counts(**counts: int) -> tuple[int, ...]:
    """The counts as plain integers, or a DataError unless 0 ≤ first ≤ second ≤ …"""
    values = tuple(_index(value, name) for name, value in counts.items())
    if any(a > b for a, b in zip((0, *values), values, strict=False)):
        order = " ≤ ".join(name.replace("_", " ") for name in counts)
        raise DataError(f"counts must satisfy 0 ≤ {order}", got=values)
    return values


def _index(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise DataError("a count must be a whole number", where=name, got=value) from error


def _upper_tail(k: Counts, r: Counts, miss: Reals) -> Reals:
    """P[Bin(r, 1 − miss) ≥ k]; `miss` itself is given, as 1 − q is lost where q rounds to 1."""
    tail: Reals = betaincc(r - np.maximum(k, 1) + 1, np.maximum(k, 1), miss)
    return np.where(k >= 1, tail, 1.0)


def _p_values(m: int, r: Counts, v: Counts, epsilon: Reals, delta: float) -> Reals:
    """`one_run_p_value` for arrays of points.

    A is a running mean of binomial probabilities from v−1 downwards. They rise and then fall, so
    the mean rises and then falls too, and its top is bisected for. Upper tails lose digits of A
    only where β ≥ ½.
    """
    miss: Reals = expit(-epsilon)
    beta = _upper_tail(v, r, miss)
    p = beta
    if delta > 0:
        # mean(k) = P[k ≤ Bin < v] / (v − k); it still rises at k when mean(k−1) ≥ mean(k)
        def mean(k: Counts) -> Reals:
            height: Reals = (_upper_tail(k, r, miss) - beta) / np.maximum(v - k, 1)
            return height

        low, high = np.zeros_like(v), np.maximum(v - 1, 0)
        while (low < high).any():
            middle = (low + high + 1) // 2
            rises = mean(np.maximum(middle - 1, 0)) >= mean(middle)
            open_ = low < high
            high = np.where(open_ & rises, middle - 1, high)
            low = np.where(open_ & ~rises, middle, low)
        p = beta + 2 * m * delta * mean(low)
    return np.minimum(np.maximum(p, sys.float_info.min), 1.0)


def _epsilons(m: int, r: Counts, v: Counts, delta: float, level: float) -> Reals:
    """`one_run_epsilon` for arrays of points: bisection under the closed form at δ = 0."""
    some = np.maximum(v, 1)
    miss = betainccinv(np.maximum(r, 1) - some + 1, some, level)
    low = np.zeros(len(v))
    high = np.maximum(0.0, np.log1p(-miss) - np.log(miss)) + 1e-6
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rejected = _p_values(m, r, v, middle, delta) < level
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    return low
