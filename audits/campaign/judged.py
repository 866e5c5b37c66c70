"""What a campaign's scores say: a verdict and bounds that are valid at any time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dpigu.audits.advice import SURE_SHARE, more_trainings
from dpigu.audits.campaign.guesses import BEYOND, Coins, Guesses, guesses_of
from dpigu.audits.statistics import (
    OWN,
    Reals,
    TradeOffCurve,
    approximate_dp_tradeoff,
    clopper_pearson_epsilon,
    mu_to_epsilon,
)
from dpigu.audits.statistics.anytime import (
    anytime_chance,
    anytime_epsilon,
    log_e_process,
    logs_by_chance,
    logs_by_claim,
    right_at_most,
)
from dpigu.audits.verdict import AuditReport, judge
from dpigu.audits.wording import down, percent
from scipy.special import ndtri

FAIR = "Each model was trained by itself, with fresh noise, and a fair coin put each record in."
SAME = "The trainings were of the recipe in this folder, and their scores are the models'."
SHARES = {"(ε, δ), sure guesses": SURE_SHARE, "trade-off curve, all guesses": 1 - SURE_SHARE}
"""The tests that may decide, and their shares of the error."""
PILOT = 4
"""A quarter of the trials fixes the threshold of Clopper-Pearson's bound."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """The counts after all trials; a trial has a guess for each target.

    Args:
        trials: models. guessed: coins guessed by the middle. right: of these.
        beyond: deviations of the rule whose sure guesses show most. sure_right, sure_wrong: of it.
    """

    trials: int
    guessed: int
    right: int
    beyond: float
    sure_right: int
    sure_wrong: int

    @classmethod
    def at(cls, guesses: Guesses, rule: int) -> Look:
        """The counts, with the sure guesses of one rule."""
        there, k = ~np.isnan(guesses.right_N), guesses.targets
        return cls(
            trials=len(there),
            guessed=int(there.sum()) * k,
            right=round(float(guesses.right_N[there].sum()) * k),
            beyond=BEYOND[rule],
            sure_right=int(guesses.sure_right_RN[rule].sum()),
            sure_wrong=int(guesses.sure_wrong_RN[rule].sum()),
        )


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A campaign's answer, valid whenever it is looked at.

    Args:
        report: the verdict; its lower bound holds for any mechanism.
        mu: μ of the largest Gaussian curve that is rejected, whatever the mechanism.
        gaussian_epsilon: ε of μ-GDP: a bound where the mechanism's curve is Gaussian.
        clopper_pearson: ε by counting the first target, where the trials were not stopped early:
            no verdict.
        fitted_mu: the two sides' distance over their spread, mean of the targets: an estimate.
        scores, coins: of N trials and K targets.
    """

    report: AuditReport
    look: Look
    mu: float
    gaussian_epsilon: float
    clopper_pearson: float
    fitted_mu: float
    fitted_epsilon: float
    p_values: Mapping[str, float]
    scores: Reals = field(repr=False)
    coins: Coins = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`, without scores and coins."""
        return {
            **self.report.to_json(),
            "trials": self.look.trials,
            "targets": self.coins.shape[1],
            "guessed": self.look.guessed,
            "right": self.look.right,
            "sure_right": self.look.sure_right,
            "sure_wrong": self.look.sure_wrong,
            "tests": [
                {"name": name, "p_value": p, "share": SHARES[name]}
                for name, p in self.p_values.items()
            ],
            "gaussian": {"mu": self.mu, "epsilon": self.gaussian_epsilon},
            "clopper_pearson": self.clopper_pearson,
            "fitted": {"mu": self.fitted_mu, "epsilon": self.fitted_epsilon},
        }


def p_values_of(
    guesses: Guesses, *, epsilon: float, delta: float, own: TradeOffCurve | None
) -> dict[str, float]:
    """Each test's 1/max E over all looks: a p-value at any stopping time, by Ville's inequality.

    Args:
        own: the curve of the run's accountant; without it both tests are of (ε, δ) alone.
    """
    most = right_at_most(own if own is not None else approximate_dp_tradeoff(epsilon, delta))
    sure, every = SHARES
    right_RN, wrong_RN = guesses.sure_right_RN, guesses.sure_wrong_RN
    logs = {
        sure: logs_by_claim(right_RN, wrong_RN, guesses.targets, epsilon, delta),
        every: logs_by_chance(guesses.right_N, most),
    }
    return {
        name: math.exp(-max(0.0, float(log_e_process(logs_PN).max())))
        for name, logs_PN in logs.items()
    }


def combined(p_values: Mapping[str, float]) -> float:
    """One p-value of all tests, each with its share of the error."""
    return min(1.0, *(p / SHARES[name] for name, p in p_values.items()))


def judged(
    scores_NK: Reals,
    coins_NK: Coins,
    *,
    epsilon: float,
    delta: float,
    confidence: float,
    own: TradeOffCurve | None,
    checks: Sequence[tuple[str, str]] = (),
) -> Campaign:
    """Test a claim on scores in the order of their trials, with any number of looks.

    Args:
        scores_NK: of N models and K targets. coins_NK: 1 where the target was in.
        own: the curve of the run's accountant; without it both tests are of (ε, δ) alone.
    """
    error = 1 - confidence
    levels = {name: error * share for name, share in SHARES.items()}
    sure, every = SHARES
    guesses = guesses_of(scores_NK, coins_NK)
    p_values = p_values_of(guesses, epsilon=epsilon, delta=delta, own=own)
    right_RN, wrong_RN = guesses.sure_right_RN, guesses.sure_wrong_RN
    k = guesses.targets
    bound = anytime_epsilon(right_RN, wrong_RN, k, delta, levels[sure])
    mu = max(0.0, 2 * float(ndtri(anytime_chance(guesses.right_N, levels[every]))))
    rejects = {name for name, p in p_values.items() if p / SHARES[name] < error}
    perfect_RN = np.full_like(right_RN, k)
    report = judge(
        claim_epsilon=epsilon,
        delta=delta,
        p_value=combined(p_values),
        lower_bound=bound,
        ceiling=anytime_epsilon(perfect_RN, 0 * perfect_RN, k, delta, levels[sure]),
        confidence=confidence,
        against=OWN if own is not None and rejects == {every} else "",
        beyond=_beyond(own, mu, delta, confidence),
        assumptions=(FAIR, SAME),
        checks=checks,
        advise=lambda: more_trainings(epsilon, delta, confidence, k),
    )
    fitted = _fitted(scores_NK, coins_NK)
    wealth_R = [
        float(log_e_process(logs_by_claim(right_N, wrong_N, k, bound, delta))[-1])
        for right_N, wrong_N in zip(right_RN, wrong_RN, strict=True)
    ]
    return Campaign(
        report=report,
        look=Look.at(guesses, int(np.argmax(wealth_R))),
        mu=mu,
        gaussian_epsilon=mu_to_epsilon(mu, delta),
        clopper_pearson=_counted(scores_NK[:, 0], coins_NK[:, 0], delta, confidence),
        fitted_mu=fitted,
        fitted_epsilon=mu_to_epsilon(fitted, delta),
        p_values=p_values,
        scores=scores_NK,
        coins=coins_NK,
    )


def _beyond(own: TradeOffCurve | None, mu: float, delta: float, confidence: float) -> str:
    """What the test of the accountant's curve found, where there is one."""
    if own is None:
        return ""
    return (
        f"All guesses together reject every Gaussian curve below μ = {down(mu)}, whatever the "
        f"mechanism: if its curve is Gaussian, ε is at least {down(mu_to_epsilon(mu, delta))} at "
        f"{percent(confidence)} confidence."
    )


def _fitted(scores_NK: Reals, coins_NK: Coins) -> float:
    """(mean in − mean out) / common spread, mean of the targets: an estimate of μ."""
    found = []
    for scores_N, inside_N in zip(scores_NK.T, coins_NK.T == 1, strict=True):
        inside, outside = scores_N[inside_N], scores_N[~inside_N]
        if min(len(inside), len(outside)) < 2:
            return 0.0
        spread = math.sqrt((inside.var(ddof=1) + outside.var(ddof=1)) / 2)
        found.append(float(inside.mean() - outside.mean()) / spread if spread > 0 else 0.0)
    return max(0.0, float(np.mean(found)))


def _counted(scores_N: Reals, coins_N: Coins, delta: float, confidence: float) -> float:
    """Clopper-Pearson's bound, its threshold by the first quarter of the trials, on the others."""
    first, inside_N = len(scores_N) // PILOT, coins_N == 1
    pilot = scores_N[:first][~inside_N[:first]]
    members, accused = inside_N[first:], scores_N[first:]
    if len(pilot) < 2 or members.all() or not members.any():
        return 0.0
    above = accused > pilot.mean() + BEYOND[0] * pilot.std(ddof=1)
    false_positives, false_negatives = int((above & ~members).sum()), int((~above & members).sum())
    return clopper_pearson_epsilon(
        false_positives,
        int((~members).sum()),
        false_negatives,
        int(members.sum()),
        delta,
        confidence,
    )
