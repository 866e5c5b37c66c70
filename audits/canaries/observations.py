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
from dpigu.audits.statistics.additive_noise import (
    AsClaimed,
    epsilon_at_least,
    noise_limit,
    noise_log_e,
    reach_limit,
    reach_log_e,
)
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
        joined_Tm: whether it was in the batch; scores never look at it.
        sigma_T, rate_T: the noise multiplier and the sampling rate that the run claims.
        planned: the steps of the whole run.
    """

    o_Tm: Reals
    there_Tm: NDArray[np.bool_]
    joined_Tm: NDArray[np.bool_]
    sigma_T: Reals
    rate_T: Reals
    planned: int

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

        Given the past, (o − b)² = (x + σZ)² with an x that is fixed before the noise, and that is
        never stochastically smaller than σ²Z². So Σ (o − b)²/σ² over n observations lies above
        χ²_n, whatever the data and the canaries: p = P[χ²_n ≤ Σ (o − b)²/σ²]. Asked of all steps
        and canaries together, of every step and of every canary, a third each (Bonferroni).
        """
        seen_Tm = np.square(self.residuals_Tm)
        if not np.isfinite(seen_Tm).all():
            return 1.0
        kinds = [(seen_Tm.sum(axis), self.there_Tm.sum(axis)) for axis in (None, 1, 0)]
        p_values = []
        for total, count in kinds:
            total, count = np.atleast_1d(total), np.atleast_1d(count)
            p = np.where(count > 0, chi2.cdf(total, np.maximum(count, 1)), 1.0)
            p_values.append(p.size * float(p.min()))
        return min(1.0, max(len(p_values) * min(p_values), 1e-300))

    @property
    def residuals_Tm(self) -> Reals:
        """r = (o − b)/σ, 0 where the canary was not there."""
        left_Tm = (self.o_Tm - self.joined_Tm) / self.sigma_T[:, None]
        return np.where(self.there_Tm, left_Tm, 0.0)

    def reach_p_value(self) -> float:
        """p-value of "a canary in the batch moves its observation by C or less"."""
        in_Tm = self.joined_Tm & self.there_Tm
        y = self.residuals_Tm[in_Tm]
        if not np.isfinite(y).all():
            return 1.0
        return math.exp(-max(0.0, reach_log_e(y, self._expected_in)))

    def p_values(self) -> dict[str, float]:
        """Of the tests of observations, by name."""
        return {"spread": self.spread_p_value(), "reach": self.reach_p_value()}

    def limits(self, confidence: float) -> tuple[float, float] | None:
        """Noise as a share of σ at most, and reach as a share of C at least, together.

        Half of the error each. None where an observation is no number, or there is none.
        """
        in_Tm = self.joined_Tm & self.there_Tm
        r_n = self.residuals_Tm[self.there_Tm]
        if not r_n.size or not np.isfinite(r_n).all():
            return None
        level = (1 - confidence) / 2
        sigma_Tm = np.broadcast_to(self.sigma_T[:, None], self.o_Tm.shape)
        reach = reach_limit(self.o_Tm[in_Tm], sigma_Tm[in_Tm], self._expected_in, level)
        return noise_limit(r_n, level), reach

    def as_claimed(self, delta: float, confidence: float) -> AsClaimed | None:
        """`limits`, and the ε that a mechanism of the form that the run claims then has."""
        limits = self.limits(confidence)
        if limits is None:
            return None
        noise, reach = limits
        steps = zip(self.sigma_T.tolist(), self.rate_T.tolist(), strict=True)
        found = epsilon_at_least(steps, noise / reach, delta) if reach > 0 else 0.0
        return AsClaimed(noise=noise, reach=reach, epsilon=found, confidence=confidence)

    def log_e(self) -> float:
        """ln E of the claimed noise and reach, over the steps so far: the mean of both bets.

        An e-process: it may be looked at after any step, and passes 1/a with probability at most a.
        """
        if not np.isfinite(self.residuals_Tm).all():
            return 0.0
        noise = noise_log_e(
            r[there] for r, there in zip(self.residuals_Tm, self.there_Tm, strict=True)
        )
        in_Tm = self.joined_Tm & self.there_Tm
        reach = reach_log_e(self.residuals_Tm[in_Tm], self._expected_in)
        return float(np.logaddexp(noise, reach) - math.log(2))

    @property
    def _expected_in(self) -> float:
        """How many observations of canaries in a batch there would be, by rate and coins."""
        return float(self.planned * self.o_Tm.shape[1] / 2 * self.rate_T[0])


def _differs(ratio: Reals, count: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a mean of `count` squares of unit spread differs from 1 by more than chance."""
    return np.abs(ratio - 1) > CHANCE * np.sqrt(2 / count)


def read_observations(canaries: int, folder: Path, planned: int) -> Observations:
    """The observations of a run's canaries, from its private folder.

    Args:
        canaries: of the plan. planned: the steps of the whole run.

    A last line cut short by a crash is left out: fewer observations only weaken the evidence.
    Raises: EvidenceError where they are missing, damaged, or not of so many canaries.
    """
    path = folder / FILE
    if not path.is_file():
        raise EvidenceError("the observations of the canaries are missing", where=str(path))
    seen, joined, sigmas, rates = [], [], [], []
    lines = path.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines):
        where = f"{path}, line {number + 1}"
        try:
            record = json.loads(line)
            values, sigma, rate = record["seen"], float(record["sigma"]), float(record["rate"])
            row = [(v is not None, 0.0 if v is None else float(v)) for v in values]
            inside = {int(j) for j in record["joined"]}
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
        joined.append([j in inside for j in range(canaries)])
        sigmas.append(sigma)
        rates.append(rate)
    if not seen:
        raise EvidenceError("nothing was observed of the canaries", where=str(path))
    table = np.array(seen, dtype=np.float64)
    return Observations(
        table[..., 1],
        table[..., 0] == 1,
        np.array(joined),
        np.array(sigmas),
        np.array(rates),
        planned,
    )
