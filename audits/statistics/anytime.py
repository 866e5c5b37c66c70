"""Tests that may be looked at after every trial: e-processes of guesses, and what they bound.

An e-process E_n is at least 0 and, under the claim, has mean at most 1 at every stopping time. So
it ever passes 1/a with probability at most a, however often and whenever it is looked at.

Source: Ville 1939; Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
betting"; for privacy, González, Dulce-Rubio, Ramdas and Ribero 2025 (arXiv 2509.07055) and Kutta,
Dunsche, Wei and Zikas 2026 (arXiv 2602.06518).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from dpigu.audits.statistics.fdp import TradeOffCurve
from dpigu.audits.statistics.one_run import Reals, check_confidence
from scipy.optimize import minimize_scalar

_HALVINGS = 40
_LARGEST_EPSILON = 50.0
_SHARES = tuple(0.95 / 2**k for k in range(9))
"""Of the wealth that is staked on a trial."""


def log_e_process(gains_RN: Reals) -> Reals:
    """ln E after each of N trials, for gains of mean at most 0 given what came before; shape (N,).

    E_n = mean over R rules and the stakes s of Π_{i ≤ n} (1 + s·x_i). Each factor has mean at most
    1 under the claim, and so has E at every stopping time.

    Args:
        gains_RN: at least −1 each; a rule's own row is chosen by earlier trials alone.
    """
    logs_SRN = np.log1p(np.multiply.outer(np.array(_SHARES), np.atleast_2d(gains_RN)))
    paths_PN = logs_SRN.cumsum(-1).reshape(-1, logs_SRN.shape[-1])
    return np.asarray(np.logaddexp.reduce(paths_PN, 0) - math.log(len(paths_PN)))


def gains_by_chance(right_N: Reals, chance: float) -> Reals:
    """x of "each guess of a trial is right with probability at most `chance`": r/c − 1.

    Args:
        right_N: the share of a trial's guesses that are right; NaN where none was made, which
            gains nothing.
    """
    return np.nan_to_num(right_N / chance - 1, nan=0.0)


def gains_by_claim(right_RN: Reals, wrong_RN: Reals, epsilon: float, delta: float) -> Reals:
    """x of "(ε, δ)-DP", from guesses of fair coins: (right − e^ε·wrong − δ)/(e^ε + δ).

    For "in" and for "out" alike (ε, δ)-DP has P[right] ≤ e^ε P[wrong] + δ/2, given all other coins
    and whatever came before. So right − e^ε·wrong − δ has mean at most 0, and so has its mean over
    the targets of one model, however they depend on each other.

    Args:
        right_RN, wrong_RN: shares of all of a trial's targets; the others are abstained from.
    """
    worst = math.exp(min(epsilon, 700.0)) + delta
    return (right_RN - (worst - delta) * wrong_RN - delta) / worst


def largest_rejected(gains_at: Callable[[float], Reals], high: float, level: float) -> float:
    """The largest claim in (0, `high`) that some look at its trials rejects at `level`; 0 if none.

    The gain of a trial with a guess falls as the claim rises (one without, −δ/(e^ε + δ), rises
    towards 0), so a look that rejects a claim rejects those below: the limit is bisected for.
    """
    check_confidence(1 - level)
    low, wanted = 0.0, -math.log(level)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rejected = float(log_e_process(gains_at(middle)).max()) >= wanted
        low, high = (middle, high) if rejected else (low, middle)
    return low


def anytime_chance(right_N: Reals, level: float) -> float:
    """The largest chance of a right guess that is rejected; `gains_by_chance` says of what."""
    return largest_rejected(lambda chance: gains_by_chance(right_N, chance), 1.0, level)


def anytime_epsilon(right_RN: Reals, wrong_RN: Reals, delta: float, level: float) -> float:
    """The largest ε that is rejected at this δ; `gains_by_claim` says of what."""
    return largest_rejected(
        lambda epsilon: gains_by_claim(right_RN, wrong_RN, epsilon, delta), _LARGEST_EPSILON, level
    )


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
