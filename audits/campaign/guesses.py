"""A campaign's guesses: each trial's by rules that the trials before it fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from dpigu.audits.statistics import Reals
from numpy.typing import NDArray

Coins: TypeAlias = NDArray[np.int64]
BEYOND = (2.5, 3.0, 3.5)
"""Standard deviations from the other side's mean beyond which a guess is sure: a rule each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Guesses:
    """Guesses of N trials with K targets each.

    Args:
        right_N: the share that is right by the middle of both sides; NaN before the first rule.
        sure_right_RN, sure_wrong_RN: how many of the sure guesses are, by each of `BEYOND`.
        targets: K.
    """

    right_N: Reals
    sure_right_RN: Reals
    sure_wrong_RN: Reals
    targets: int


def guesses_of(scores_NK: Reals, coins_NK: Coins) -> Guesses:
    """Guess every coin of each trial by the scores and coins of the trials before it alone.

    A target's rules begin when two trials before had it in and two had it out.
    """
    inside_NK = coins_NK == 1
    mean_in_NK, variance_in_NK = _before(scores_NK, inside_NK)
    mean_out_NK, variance_out_NK = _before(scores_NK, ~inside_NK)
    spread_NK = np.sqrt((variance_in_NK + variance_out_NK) / 2)
    middle_NK = (mean_in_NK + mean_out_NK) / 2
    right_NK = np.where(np.isnan(spread_NK), np.nan, (scores_NK > middle_NK) == inside_NK)
    accused_RNK = np.array([scores_NK > mean_out_NK + b * spread_NK for b in BEYOND])
    acquitted_RNK = np.array([scores_NK < mean_in_NK - b * spread_NK for b in BEYOND])
    sure_RNK = accused_RNK != acquitted_RNK
    return Guesses(
        right_N=right_NK.mean(1),
        sure_right_RN=(sure_RNK & (accused_RNK == inside_NK)).sum(-1, dtype=np.float64),
        sure_wrong_RN=(sure_RNK & (accused_RNK != inside_NK)).sum(-1, dtype=np.float64),
        targets=scores_NK.shape[1],
    )


def _before(scores_NK: Reals, of_NK: NDArray[np.bool_]) -> tuple[Reals, Reals]:
    """Mean and variance of the scores marked before each trial; NaN where fewer than two are."""
    shifted_NK = np.where(of_NK, scores_NK - scores_NK[:1], 0.0)
    sums = (_exclusive(x) for x in (of_NK, shifted_NK, shifted_NK**2))
    count_NK, first_NK, second_NK = sums
    count_NK = np.where(count_NK < 2, np.nan, count_NK)
    mean_NK = first_NK / count_NK
    variance_NK = np.maximum(second_NK - first_NK * mean_NK, 0.0) / (count_NK - 1)
    return scores_NK[:1] + mean_NK, variance_NK


def _exclusive(values_NK: NDArray[np.generic]) -> Reals:
    """Each row the sum of the rows before it."""
    sums_NK = np.cumsum(values_NK, axis=0, dtype=np.float64)
    return np.concatenate([np.zeros_like(sums_NK[:1]), sums_NK[:-1]])
