"""ROC curves, AUC and TPR at a small FPR, with intervals. Estimates: they decide nothing.

The intervals assume independent records, which canaries of one run are not: what one of them
taught the model may show in the score of another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from dpigu.audits.statistics.one_run import Reals, check_confidence
from dpigu.dpcore import DataError
from numpy.typing import ArrayLike
from scipy.special import betaincinv, expit, logit, ndtri
from scipy.stats import binom, rankdata


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


def auc(members: ArrayLike, non_members: ArrayLike, confidence: float = 0.95) -> Estimate:
    """P[score of a member > that of a non-member] + ½ P[equal], with DeLong's interval.

    The interval is taken on the logit, so that it stays within [0, 1]. Where every member, or
    none, beats every non-member, DeLong has no width: then it ends where the chance of such a
    sample is 1 − confidence, at (1 − confidence)^(1/min(n, n')).

    Raises: DataError for NaN, or a side without records.
    Source: DeLong, DeLong and Clarke-Pearson 1988, in ranks (Sun and Xu 2014).

    Examples:
        >>> round(auc([3.0, 2.0], [1.0, 0.0]).value, 2)
        1.0
    """
    check_confidence(confidence)
    in_n, out_n = _sides(members, non_members)
    m, n = len(in_n), len(out_n)
    ranks = rankdata(np.concatenate([in_n, out_n]))
    above_m = (ranks[:m] - rankdata(in_n)) / n  # the share of non-members below each member
    below_n = 1 - (ranks[m:] - rankdata(out_n)) / m
    value = float(above_m.mean())
    if value in (0.0, 1.0):
        width = 1 - (1 - confidence) ** (1 / min(m, n))
        return Estimate(value=value, low=max(0.0, value - width), high=min(1.0, value + width))
    variance = sum(
        float(x.var(ddof=1)) / len(x) if len(x) > 1 else 0.25 for x in (above_m, below_n)
    )
    reach = ndtri((1 + confidence) / 2) * math.sqrt(variance) / (value * (1 - value))
    at = logit(value)
    return Estimate(value=value, low=float(expit(at - reach)), high=float(expit(at + reach)))


def tpr_at(
    members: ArrayLike, non_members: ArrayLike, fpr: float, confidence: float = 0.95
) -> Estimate:
    """The largest share of members found while at most a share `fpr` of non-members is accused.

    The threshold is a score of the non-members', so it is uncertain too: the interval takes the
    order statistics that bracket the true threshold, and Clopper-Pearson at each, a quarter of
    the error for each of the four. With few non-members its lower end is 0, and rightly so.

    Raises: DataError for NaN, a side without records, or an fpr outside (0, 1).
    """
    check_confidence(confidence)
    if not 0 < fpr < 1:
        raise DataError("a false-positive rate must lie in (0, 1)", where="fpr", got=fpr)
    in_n, out_n = _sides(members, non_members)
    m, n = len(in_n), len(out_n)
    quarter = (1 - confidence) / 4
    down_n = np.sort(out_n)[::-1]

    def found(accused: int) -> int:
        """Members above the score that at most so many non-members pass."""
        return m if accused >= n else int((in_n > down_n[accused]).sum())

    fewest, most = int(binom.ppf(quarter, n, fpr)), int(binom.isf(quarter, n, fpr))
    low = found(fewest - 1) if fewest > 0 else 0
    high = found(most)
    return Estimate(
        value=found(math.floor(fpr * n * (1 + 1e-12))) / m,
        low=0.0 if low == 0 else float(betaincinv(low, m - low + 1, quarter)),
        high=1.0 if high == m else float(betaincinv(high + 1, m - high, 1 - quarter)),
    )


@dataclass(frozen=True, kw_only=True)
class RocPoint:
    """A point of a ROC curve, with the interval of its TPR."""

    fpr: float
    tpr: float
    low: float
    high: float


def roc_curve(
    members: ArrayLike, non_members: ArrayLike, points: int = 40, confidence: float = 0.95
) -> tuple[RocPoint, ...]:
    """TPR at about `points` false-positive rates, spaced evenly in the logarithm from 1/n up."""
    in_n, out_n = _sides(members, non_members)
    n = len(out_n)
    counts = sorted({round(k) for k in np.geomspace(1, n, points)} - {n})
    at = [(k / n, tpr_at(in_n, out_n, k / n, confidence)) for k in counts]
    rows = [RocPoint(fpr=x, tpr=e.value, low=e.low, high=e.high) for x, e in at]
    return (*rows, RocPoint(fpr=1.0, tpr=1.0, low=1.0, high=1.0))


def _sides(members: ArrayLike, non_members: ArrayLike) -> tuple[Reals, Reals]:
    sides = []
    for name, given in (("members", members), ("non-members", non_members)):
        scores = np.asarray(given, dtype=np.float64).ravel()
        if scores.size == 0:
            raise DataError("a ROC curve needs a score on each side", where=name)
        if np.isnan(scores).any():
            raise DataError("scores must not be NaN", where=name)
        sides.append(scores)
    return sides[0], sides[1]
