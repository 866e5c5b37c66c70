"""Tests that may be looked at after every trial: e-processes of guesses, and what they bound.

An e-process E_n is at least 0 and, under the claim, has mean at most 1 at every stopping time. So
it ever passes 1/a with probability at most a, however often and whenever it is looked at.

Source: Ville 1939; Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
betting"; for privacy, González, Dulce-Rubio, Ramdas and Ribero 2025 (arXiv 2509.07055) and Kutta,
Dunsche, Wei and Zikas 2026 (arXiv 2602.06518).
"""

from __future__ import annotations

import math

from dpigu.audits.statistics.fdp import TradeOffCurve
from dpigu.audits.statistics.one_run import check_confidence, check_counts
from scipy.optimize import minimize_scalar
from scipy.special import betainc, betaln

_HALVINGS = 60
_LARGEST_LOG = 690.0  # e-values beyond are given as this one
_LARGEST_EPSILON = 50.0
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Of the wealth that is staked on a guess of "(ε, δ)"."""


def log_e_value(right: int, trials: int, chance: float) -> float:
    """ln E of "every trial is right with probability at most `chance`, whatever came before".

    E = ∫_c^1 (p/c)^k ((1 − p)/(1 − c))^(n−k) dp / (1 − c), k right of n at c = `chance`. Each
    factor of the integrand has mean at most 1 for a trial that is right with probability at most
    c < p, so E is an e-process, also where the rule of each trial was chosen by those before it.
    In closed form, B(k+1, n−k+1)·(1 − I_c(k+1, n−k+1)) over c^k (1 − c)^(n−k+1).

    Raises: DataError for counts that cannot be.
    """
    k, n = check_counts(right=right, trials=trials)
    if not chance < 1:
        return 0.0
    share = float(betainc(n - k + 1, k + 1, 1 - chance))  # 1 − I_c(k+1, n−k+1)
    if share <= 0:
        return -math.inf
    top = float(betaln(k + 1, n - k + 1)) + math.log(share)
    bottom = (k * math.log(chance) if k else 0.0) + (n - k + 1) * math.log1p(-chance)
    return min(top - bottom, _LARGEST_LOG)


def anytime_lower(right: int, trials: int, level: float) -> float:
    """The largest chance that `log_e_value` rejects after these trials, at this level; 0 if none.

    E falls as the chance rises below k/n, so the limit is bisected for, from below. The largest
    of all looks' limits is a limit too.
    """
    check_confidence(1 - level)
    low, high, wanted = 0.0, right / trials if trials else 0.0, -math.log(level)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle > 0 and log_e_value(right, trials, middle) >= wanted:
            low = middle
        else:
            high = middle
    return low


def right_at_most(curve: TradeOffCurve) -> float:
    """The largest chance of a right guess of a fair coin under a trade-off curve: 1 − min(α + f)/2.

    The minimum of a convex function, from a bounded search; its value is lowered by what such a
    search may miss, so that a claim is never made narrower than it is.
    """
    found = minimize_scalar(
        lambda alpha: alpha + curve(alpha),
        bounds=(0.0, 1.0),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return min(1.0, 1 - (float(found.fun) - 1e-8) / 2)


def log_e_value_of_claim(
    right: int, wrong: int, trials: int, epsilon: float, delta: float
) -> float:
    """ln E of "(ε, δ)-DP" from guesses of fair coins, abstentions among the trials.

    Let a trial be right (1), wrong (1) or abstained from. For "in" and for "out" alike, (ε, δ)-DP
    has P[right] ≤ e^ε P[wrong] + δ/2, so X = right − e^ε·wrong − δ has mean at most 0, whatever
    came before. Then Π(1 + λX) is an e-process for λ ≤ 1/(e^ε + δ); E is its mean over a grid of λ.

    Raises: DataError for counts that cannot be.
    """
    check_counts(right=right, trials=trials - wrong)
    check_counts(wrong=wrong, trials=trials)
    worst = math.exp(min(epsilon, 700.0)) + delta
    logs = [
        right * math.log1p(share / worst * (1 - delta))
        + wrong * math.log1p(-share)
        + (trials - right - wrong) * math.log1p(-share / worst * delta)
        for share in _SHARES
    ]
    top = max(logs)
    return min(top + math.log(sum(math.exp(x - top) for x in logs) / len(logs)), _LARGEST_LOG)


def anytime_epsilon(right: int, wrong: int, trials: int, delta: float, level: float) -> float:
    """The largest ε that `log_e_value_of_claim` rejects at this level: it falls as ε rises."""
    check_confidence(1 - level)
    low, high, wanted = 0.0, _LARGEST_EPSILON, -math.log(level)
    if log_e_value_of_claim(right, wrong, trials, 0.0, delta) < wanted:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rejected = log_e_value_of_claim(right, wrong, trials, middle, delta) >= wanted
        low, high = (middle, high) if rejected else (low, middle)
    return low
