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
_STAKES = tuple(0.95 / 2**k for k in range(12))
"""On one guess, in units of the wealth: what it gains where it is right."""


def log_e_process(logs_PN: Reals) -> Reals:
    """ln E after each of N trials; shape (N,).

    E_n = mean over P paths of Π_{i ≤ n} f_i. Each factor f has mean at most 1 under the claim,
    given the trials before it, and so has E at every stopping time.

    Args:
        logs_PN: ln f; how a path bets on a trial is chosen by earlier trials alone.
    """
    paths_PN = np.atleast_2d(logs_PN).cumsum(-1)
    return np.asarray(np.logaddexp.reduce(paths_PN, 0) - math.log(len(paths_PN)))


def logs_by_chance(right_N: Reals, chance: float) -> Reals:
    """ln(1 + s·(r/c − 1)) of "each guess of a trial is right with probability at most c"; (P, N).

    One path for each share s of the wealth. The mean over a trial's guesses has this mean however
    they depend on each other.

    Args:
        right_N: r, the share of a trial's guesses that are right; NaN where none was made, which
            gains nothing.
    """
    gains_N = np.nan_to_num(right_N / chance - 1, nan=0.0)
    return np.asarray(np.log1p(np.multiply.outer(np.array(_SHARES), gains_N)))


def logs_by_claim(
    right_RN: Reals, wrong_RN: Reals, targets: int, epsilon: float, delta: float
) -> Reals:
    """ln f of "(ε, δ)-DP", from guesses of the fair coins of K targets in one model; (P, N).

    f = (1 + λ)^right · (1 − λe^ε)^wrong / (1 + δ((1 + λ)^K − 1)) for each of R rules and stakes λ,
    with λe^ε cut at 0.95. Its mean is at most 1, however the targets depend on each other: with
    all coins but one fixed, a bet on that coin adds λδ·sup of the other factors at most, so that
    the product of all K bets has mean at most 1 + λδ·Σ_{k<K} (1 + λ)^k. For δ = 0 it is the
    argument of Steinke, Nasr and Jagielski 2023. f falls as ε rises, whatever was guessed.

    Args:
        right_RN, wrong_RN: how many of a trial's guesses are; the other targets are abstained from.
        targets: K.
    """
    odds = math.exp(-min(epsilon, 700.0))
    largest_S = np.array(_STAKES)
    price_S = np.log1p(delta * np.expm1(targets * np.log1p(largest_S)))
    stake_S = np.minimum(largest_S, _STAKES[0] * odds)
    gain_S, loss_S = np.log1p(stake_S), np.log1p(-stake_S / odds)
    bets_SRN = np.multiply.outer(gain_S, right_RN) + np.multiply.outer(loss_S, wrong_RN)
    logs_SRN = bets_SRN - price_S.reshape(-1, *(1,) * np.ndim(right_RN))
    return np.asarray(logs_SRN.reshape(-1, np.shape(right_RN)[-1]))


def largest_rejected(logs_at: Callable[[float], Reals], high: float, level: float) -> float:
    """The largest claim in (0, `high`) that some look at its trials rejects at `level`; 0 if none.

    No factor rises with the claim, so a look that rejects one rejects those below: the limit is
    bisected for.
    """
    check_confidence(1 - level)
    low, wanted = 0.0, -math.log(level)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rejected = float(log_e_process(logs_at(middle)).max()) >= wanted
        low, high = (middle, high) if rejected else (low, middle)
    return low


def anytime_chance(right_N: Reals, level: float) -> float:
    """The largest chance of a right guess that is rejected; `logs_by_chance` says of what."""
    return largest_rejected(lambda chance: logs_by_chance(right_N, chance), 1.0, level)


def anytime_epsilon(
    right_RN: Reals, wrong_RN: Reals, targets: int, delta: float, level: float
) -> float:
    """The largest ε that is rejected at this δ; `logs_by_claim` says of what."""
    return largest_rejected(
        lambda epsilon: logs_by_claim(right_RN, wrong_RN, targets, epsilon, delta),
        _LARGEST_EPSILON,
        level,
    )


def trials_for_ceiling(targets: int, epsilon: float, delta: float, level: float) -> int | None:
    """The fewest trials that reject ε at `level` if every target of each is told rightly.

    All factors of a path are then equal, so that E after N trials is the mean over paths of f^N.
    None where no number would do, as for an ε beyond what is looked for.
    """
    perfect = np.full((1, 1), float(targets))
    logs_P = logs_by_claim(perfect, 0 * perfect, targets, epsilon, delta)[:, 0]
    if epsilon >= _LARGEST_EPSILON or logs_P.max() <= 0:
        return None
    wanted = math.log(len(logs_P)) - math.log(level)
    low, high = 0, math.ceil(wanted / float(logs_P.max()))
    while high - low > 1:
        middle = (low + high) // 2
        enough = float(np.logaddexp.reduce(middle * logs_P)) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


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
