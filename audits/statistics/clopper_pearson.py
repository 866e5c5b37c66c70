"""Valid lower bounds on ε from the errors of a test over independent trials."""

from __future__ import annotations

import math

from dpigu.audits.statistics.one_run import check_claim, check_confidence, check_counts
from dpigu.dpcore import DataError
from scipy.special import betainccinv


def clopper_pearson_limits(
    false_positives: int, non_members: int, false_negatives: int, members: int, confidence: float
) -> tuple[float, float]:
    """Upper limits (FP̄, FN̄) of the two error rates, jointly at the confidence.

    FP̄ = BetaInv(1 − a/2; FP+1, N−FP), a = 1 − confidence, FN̄ likewise; 1 where all erred.
    Assumes independent trials, with the threshold fixed beforehand.
    Raises: DataError for counts that cannot be, or no trial on a side.
    Source: Clopper and Pearson 1934; Nasr et al. 2021, "Adversary Instantiation", section IV.
    """
    check_confidence(confidence)
    fp, n = check_counts(false_positives=false_positives, non_members=non_members)
    fn, p = check_counts(false_negatives=false_negatives, members=members)
    if min(n, p) == 0:
        raise DataError("Clopper-Pearson needs a trial a side", got=f"{n} against {p}")
    tail = (1 - confidence) / 2
    fp_bar = 1.0 if fp == n else float(betainccinv(fp + 1, n - fp, tail))
    fn_bar = 1.0 if fn == p else float(betainccinv(fn + 1, p - fn, tail))
    return fp_bar, fn_bar


def clopper_pearson_epsilon(
    false_positives: int,
    non_members: int,
    false_negatives: int,
    members: int,
    delta: float,
    confidence: float = 0.95,
) -> float:
    """Lower bound on ε from the errors of a membership test over independent models.

    ε ≥ max(0, ln((1 − FN̄ − δ)/FP̄), ln((1 − FP̄ − δ)/FN̄)), limits by `clopper_pearson_limits`.

    Raises: DataError as there, or for δ outside [0, 1).
    """
    check_claim(0.0, delta)
    fp_bar, fn_bar = clopper_pearson_limits(
        false_positives, non_members, false_negatives, members, confidence
    )
    ratios = ((1 - fn_bar - delta) / fp_bar, (1 - fp_bar - delta) / fn_bar)
    return max(0.0, *(math.log(ratio) if ratio > 1 else 0.0 for ratio in ratios))
