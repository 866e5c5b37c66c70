"""f-DP in one run: trade-off curves, the one-run test against a curve, the Gaussian estimate.

A test against a curve that was fixed beforehand is valid whatever the model and its correlations.
The Gaussian estimate is no bound: it assumes the mechanism to be Gaussian.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from dpigu.audits.statistics.one_run import (
    bonferroni,
    check_claim,
    check_confidence,
    check_counts,
    count_correct,
)
from dpigu.dpcore import DataError
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

_NORMAL = NormalDist()
_ROUNDING = 1e-9  # more than the rounding of 10⁶ additions: the test rejects a little late
_SMALLEST_LEVEL = 1e-12
_STEEPEST = 700.0  # e^ε overflows beyond; leaving such a pair out is pessimistic
_HALVINGS = 40


@dataclass(frozen=True)
class TradeOffCurve:
    """A symmetric trade-off curve f, held as the inverse blow-up B⁻¹(x) = f(1 − x) on [0, 1].

    f(α) is the least type II error of any test of neighbouring inputs at type I error α. A
    smaller f claims less privacy, so a curve that lies below the true one is pessimistic.

    Source: Dong, Roth and Su 2019, "Gaussian Differential Privacy", definition 2.1.
    """

    name: str
    inverse_blow_up: Callable[[float], float]

    def __call__(self, alpha: float) -> float:
        """The type II error f(α)."""
        return self.inverse_blow_up(1 - alpha)


def gaussian_tradeoff(mu: float) -> TradeOffCurve:
    """μ-GDP: B⁻¹(x) = Φ(Φ⁻¹(x) − μ). Raises DataError unless 0 ≤ μ < ∞.

    Examples:
        >>> curve = gaussian_tradeoff(1.0)
        >>> round(curve(0.05), 3)  # false negatives at 5% false positives: at least
        0.74
    """
    _check_mu(mu)

    def inverse_blow_up(x: float) -> float:
        if not 0 < x < 1:
            return float(x >= 1)
        return 0.5 * math.erfc((mu - _NORMAL.inv_cdf(x)) / math.sqrt(2))

    return TradeOffCurve(f"{mu:g}-GDP", inverse_blow_up)


def approximate_dp_tradeoff(epsilon: float, delta: float) -> TradeOffCurve:
    """f_{ε,δ}: B⁻¹(x) = max(0, 1 − δ − e^ε(1 − x), e^{−ε}(x − δ)), the claim (ε, δ) itself.

    Source: Dong, Roth and Su 2019, equation 5.

    Examples:
        >>> round(approximate_dp_tradeoff(1.0, 1e-5)(0.05), 3)
        0.864
    """
    return tradeoff_from_epsilon_delta_pairs([(epsilon, delta)], f"({epsilon:g}, {delta:g})-DP")


def tradeoff_from_epsilon_delta_pairs(
    pairs: Iterable[tuple[float, float]], name: str = "privacy profile"
) -> TradeOffCurve:
    """sup_i f_{ε_i,δ_i}: the pessimistic curve of a privacy profile, symmetric and convex.

    Each pair must hold in both directions (adding and removing), as an accountant's δ(ε) does;
    fewer pairs or larger δ's only make the curve more pessimistic. Give it
    `((e, profile(e)) for e in grid)`, with a grid fine enough that δ falls from step to step by
    less than the precision wanted.

    Raises: DataError for no pair, a negative or infinite ε, δ outside [0, 1).
    """
    lines = sorted(set(pairs))
    for epsilon, delta in lines:
        check_claim(epsilon, delta)
    if not lines:
        raise DataError("a trade-off curve needs at least one (ε, δ)", where=name)
    lines = [(e, d) for e, d in lines if e < _STEEPEST]
    # e^{−ε}(x − δ) in x, and 1 − δ − e^ε·y in y = 1 − x, where it keeps its digits
    gentle = _upper_envelope([(0.0, 0.0), *((math.exp(-e), -math.exp(-e) * d) for e, d in lines)])
    steep = _upper_envelope([(0.0, 0.0), *((-math.exp(e), 1 - d) for e, d in lines)])

    def inverse_blow_up(x: float) -> float:
        return max(gentle(x), steep(1 - x))

    return TradeOffCurve(name, inverse_blow_up)


def fdp_rejects(
    curve: TradeOffCurve, canaries: int, guesses: int, correct: int, alpha: float
) -> bool:
    """Whether P[at least c of g guesses right] ≥ α is impossible for an f-DP mechanism.

    r ← αc/m, h ← α(g−c)/m; for i = c−1 … 0: h' = max(h, B⁻¹(r)), r ← r + i/(g−i)·(h'−h), h ← h';
    rejected when r + h > g/m: the probabilities of the counts would pass 1. Both r and h only
    grow, so passing g/m decides, and a step that moves neither ends the loop. Rejection is
    monotone in α and in the curve.

    Args: m = `canaries` independent fair coins, g = `guesses`, c = `correct`; the curve and g are
        fixed before the coins are seen.
    Raises: DataError for counts that cannot be or α outside (0, 1).
    Source: Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-Differential Privacy in One Run",
        algorithm 3.
    """
    c, g, m = check_counts(correct=correct, guesses=guesses, canaries=canaries)
    if not 0 < alpha < 1:
        raise DataError("α must lie in (0, 1)", where="alpha", got=alpha)
    if c == 0:
        return False
    r, h, limit = alpha * c / m, alpha * (g - c) / m, g / m * (1 + _ROUNDING)
    for i in range(c - 1, -1, -1):
        raised = curve.inverse_blow_up(r)
        if raised <= h:
            return False
        r += i / (g - i) * (raised - h)
        h = raised
        if r + h > limit:
            return True
    return False


def fdp_p_value(curve: TradeOffCurve, canaries: int, guesses: int, correct: int) -> float:
    """p-value of "the mechanism is f-DP": the least α that `fdp_rejects`, found from above.

    At least 1e-12, at most 1. Arguments, errors and source as `fdp_rejects`.
    """

    def rejects(alpha: float) -> bool:
        return fdp_rejects(curve, canaries, guesses, correct, alpha)

    low, high = _SMALLEST_LEVEL, 1 - _SMALLEST_LEVEL
    if rejects(low):
        return low
    if not rejects(high):
        return 1.0
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if rejects(middle) else (middle, high)
    return high


@dataclass(frozen=True, kw_only=True)
class FDPRow:
    """One grid point of the f-DP test: its p-value, undivided."""

    guesses: int
    correct: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class FDPResult:
    """The f-DP one-run test of one curve over a grid; `p_value` is corrected for the grid."""

    canaries: int
    curve: str
    p_value: float
    rows: tuple[FDPRow, ...]


def fdp_one_run_test(
    curve: TradeOffCurve, scores: ArrayLike, coins: ArrayLike, grid: Sequence[int]
) -> FDPResult:
    """Test a curve fixed beforehand on canaries' scores, at every guess count of a fixed grid.

    Guesses and errors as `one_run.one_run_test`; p-values by `fdp_p_value`, the level
    divided among the grid's points.
    """
    counts = count_correct(scores, coins, grid)
    m = np.size(coins)
    rows = tuple(
        FDPRow(guesses=g, correct=c, p_value=fdp_p_value(curve, m, g, c))
        for g, c in zip(grid, counts, strict=True)
    )
    p_value = bonferroni([row.p_value for row in rows])
    return FDPResult(canaries=m, curve=curve.name, p_value=p_value, rows=rows)


def f_dp_epsilon_if_gaussian(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95
) -> tuple[float, float]:
    """(μ, ε): the largest μ whose μ-GDP the guesses reject, and its ε at this δ. No bound.

    It assumes a Gaussian mechanism: on exact ε = 2 randomized response it says ε ≥ 3.4. ε is
    infinite at δ = 0 where μ > 0. Arguments and source as `fdp_rejects`.

    Raises: DataError for counts that cannot be, δ outside [0, 1) or confidence outside (0, 1).
    """
    check_claim(0.0, delta)
    check_confidence(confidence)

    def rejects(mu: float) -> bool:
        return fdp_rejects(gaussian_tradeoff(mu), canaries, guesses, correct, 1 - confidence)

    low, high = 0.0, 1.0
    while rejects(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rejects(middle) else (low, middle)
    return low, mu_to_epsilon(low, delta)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """δ of μ-GDP at ε: Φ(−ε/μ + μ/2) − e^ε Φ(−ε/μ − μ/2).

    Source: Dong, Roth and Su 2019, corollary 2.13.
    """
    _check_mu(mu)
    check_claim(epsilon, 0.0)
    if mu == 0:
        return 0.0
    first = float(log_ndtr(-epsilon / mu + mu / 2))
    second = epsilon + float(log_ndtr(-epsilon / mu - mu / 2))
    return math.exp(first) * -math.expm1(min(0.0, second - first))


def mu_to_epsilon(mu: float, delta: float) -> float:
    """The least ε ≥ 0 with `gaussian_delta` ≤ δ, found from above; infinite at δ = 0 < μ.

    Examples:
        >>> round(mu_to_epsilon(1.0, 1e-5), 2)
        4.38
    """
    check_claim(0.0, delta)
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    if delta == 0:
        return math.inf
    low, high = 0.0, 1.0
    while gaussian_delta(mu, high) > delta:
        low, high = high, 2 * high
    for _ in range(2 * _HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(mu, middle) > delta else (low, middle)
    return high


def _check_mu(mu: float) -> None:
    if not (math.isfinite(mu) and mu >= 0):
        raise DataError("μ must be finite and not negative", where="mu", got=mu)


def _upper_envelope(lines: Iterable[tuple[float, float]]) -> Callable[[float], float]:
    """max_i (slope_i·x + intercept_i) as a lookup; a misplaced break only lowers it."""
    kept: list[tuple[float, float]] = []
    starts: list[float] = []  # kept[j] is the highest line from starts[j] on
    for slope, intercept in sorted(lines):
        start = -math.inf
        while kept:
            steepness = slope - kept[-1][0]
            if steepness > 0:
                start = (kept[-1][1] - intercept) / steepness
                if start > starts[-1]:
                    break
            kept.pop()
            starts.pop()
            start = -math.inf
        kept.append((slope, intercept))
        starts.append(start)

    def highest(x: float) -> float:
        slope, intercept = kept[bisect_right(starts, x) - 1]
        return slope * x + intercept

    return highest
