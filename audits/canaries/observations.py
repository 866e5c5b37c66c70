"""What a run's releases said of gradient canaries: kept, weighed by its own spread, and tested.

An observation of canary j at step t is o = b + X + σZ: b = 1 where it is in the batch, X is what
the data add, Z is standard normal noise. All are in units of C.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dpigu.audits.evidence import EvidenceError
from dpigu.audits.statistics import Reals
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import chi2

FILE = "audit-observations.jsonl"
CHANCE = 4.0
"""Standard errors by which a spread must differ from σ before it weighs in its place."""
LEAST = 0.02
"""The smallest spread that weighs, in units of C: the data's share is seldom smaller."""
ROUNDS = 60


def increment(o: Reals, rate: Reals | float, sigma: Reals | float) -> Reals:
    """A step's log-likelihood ratio of "in" against "out" for each canary, in the shape of o.

    log(1 − q + q·exp((o − ½)/σ²)), which is (o − ½)/σ² at q = 1; o ~ N(b, σ²) with b = 1 where
    the canary is in this batch, as the guarded rows have it.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_out = np.log1p(-np.asarray(rate, dtype=np.float64))
        exponent = (o - 0.5) / np.square(sigma)
        found: Reals = np.logaddexp(log_out, exponent + np.log(rate))
    return found


@dataclass(frozen=True)
class Observations:
    """The observations of m canaries over T steps.

    Args:
        o_Tm: in units of C; NaN where something was no number.
        there_Tm: whether the canary had a live coordinate to be seen on.
        sigma_T, rate_T: the noise multiplier and the sampling rate that the run claims.
    """

    o_Tm: Reals
    there_Tm: NDArray[np.bool_]
    sigma_T: Reals
    rate_T: Reals

    def scores(self) -> Reals:
        """Σ_t of the log-likelihood ratios at the spread that was observed, one a canary."""
        q_T1 = self.rate_T[:, None]
        ratios_Tm = increment(self.o_Tm, q_T1, self.spread_Tm())
        scores_m: Reals = np.where(self.there_Tm, ratios_Tm, 0.0).sum(0)
        return scores_m

    def spread_Tm(self) -> Reals:
        """σ of every observation: the claimed one, unless a step or a canary says otherwise.

        s_t² = E[(o − b)²] of step t over its canaries, by expectation-maximisation of the mixture
        (1 − q/2)·N(0, s²) + q/2·N(1, s²); r_j² = E[(o − b)²/s_t²] of canary j over the steps.
        Each takes the place of σ and of 1 where it differs by more than `CHANCE` standard errors.
        A function of releases alone, so no score looks at a coin.
        """
        sigma_T1 = self.sigma_T[:, None]
        if not np.isfinite(self.o_Tm[self.there_Tm]).all():
            return np.broadcast_to(sigma_T1, self.o_Tm.shape)
        o_Tm, p_T1 = np.where(self.there_Tm, self.o_Tm, 0.0), self.rate_T[:, None] / 2
        count_T1 = np.maximum(self.there_Tm.sum(1, keepdims=True), 1)
        square_T1 = (o_Tm**2).sum(1, keepdims=True) / count_T1
        for _ in range(ROUNDS):
            left_Tm = self._left(o_Tm, p_T1, square_T1)
            square_T1 = np.maximum(left_Tm.sum(1, keepdims=True) / count_T1, LEAST**2)
        square_T1 = np.where(_differs(square_T1 / sigma_T1**2, count_T1), square_T1, sigma_T1**2)
        count_m = np.maximum(self.there_Tm.sum(0), 1)
        share_m = (self._left(o_Tm, p_T1, square_T1) / square_T1).sum(0) / count_m
        share_m = np.where(_differs(share_m, count_m), share_m, 1.0)
        spread_Tm: Reals = np.sqrt(np.maximum(square_T1 * share_m, LEAST**2))
        return spread_Tm

    def _left(self, o_Tm: Reals, p_T1: Reals, square_T1: Reals) -> Reals:
        """E[(o − b)²] given o, 0 where the canary was not there."""
        exponent_Tm = (o_Tm - 0.5) / square_T1
        in_Tm = expit(np.log(p_T1) - np.log1p(-p_T1) + exponent_Tm)
        left_Tm = in_Tm * (o_Tm - 1) ** 2 + (1 - in_Tm) * o_Tm**2
        return np.where(self.there_Tm, left_Tm, 0.0)

    def spread_p_value(self) -> float:
        """p-value of "every observation holds independent noise of σ or more".

        Given the past, o² = (x + σZ)² with an x that is fixed before the noise, and that is never
        stochastically smaller than σ²Z². So Σ o²/σ² over n observations lies above χ²_n, whatever
        the data and the canaries: p = P[χ²_n ≤ Σ o²/σ²]. Asked of all steps and canaries together,
        of every step and of every canary, a third each (Bonferroni).
        """
        seen_Tm = np.where(self.there_Tm, self.o_Tm / self.sigma_T[:, None], 0.0) ** 2
        if not np.isfinite(seen_Tm).all():
            return 1.0
        kinds = [(seen_Tm.sum(axis), self.there_Tm.sum(axis)) for axis in (None, 1, 0)]
        p_values = []
        for total, count in kinds:
            total, count = np.atleast_1d(total), np.atleast_1d(count)
            p = np.where(count > 0, chi2.cdf(total, np.maximum(count, 1)), 1.0)
            p_values.append(p.size * float(p.min()))
        return min(1.0, max(len(p_values) * min(p_values), 1e-300))


def _differs(ratio: Reals, count: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a mean of `count` squares of unit spread differs from 1 by more than chance."""
    return np.abs(ratio - 1) > CHANCE * np.sqrt(2 / count)


def read_observations(canaries: int, folder: Path) -> Observations:
    """The observations of a run's canaries, from its private folder.

    A last line cut short by a crash is left out: fewer observations only weaken the evidence.
    Raises: EvidenceError where they are missing, damaged, or not of so many canaries.
    """
    path = folder / FILE
    if not path.is_file():
        raise EvidenceError("the observations of the canaries are missing", where=str(path))
    seen, sigmas, rates = [], [], []
    lines = path.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines):
        where = f"{path}, line {number + 1}"
        try:
            record = json.loads(line)
            values, sigma, rate = record["seen"], float(record["sigma"]), float(record["rate"])
            row = [(v is not None, 0.0 if v is None else float(v)) for v in values]
            if not (0 < sigma < math.inf and 0 < rate <= 1):
                raise ValueError("no noise multiplier, or no rate")
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) - 1:
                break
            raise EvidenceError(
                "the observations of the canaries are damaged", where=where
            ) from error
        if len(row) != canaries:
            raise EvidenceError("the observations are not of the plan's canaries", where=where)
        seen.append(row)
        sigmas.append(sigma)
        rates.append(rate)
    if not seen:
        raise EvidenceError("nothing was observed of the canaries", where=str(path))
    table = np.array(seen, dtype=np.float64)
    return Observations(table[..., 1], table[..., 0] == 1, np.array(sigmas), np.array(rates))
