"""What a campaign's scores say: guesses by rules that earlier trials chose, tested at any time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dpigu.audits.statistics import (
    OWN,
    Reals,
    TradeOffCurve,
    approximate_dp_tradeoff,
    clopper_pearson_epsilon,
    mu_to_epsilon,
)
from dpigu.audits.statistics.anytime import (
    anytime_epsilon,
    anytime_lower,
    log_e_value,
    log_e_value_of_claim,
    right_at_most,
)
from dpigu.audits.verdict import AuditReport, judge
from dpigu.audits.wording import down, percent
from numpy.typing import NDArray
from scipy.special import ndtri

FAIR = "Each model was trained by itself, with fresh noise, and a fair coin put the record in."
SAME = "The trainings were of the recipe in this folder, and their scores are the models'."
SHARES = {"(ε, δ), sure guesses": 0.5, "trade-off curve, all guesses": 0.5}
"""The tests that may decide, and their shares of the error."""
BEYOND = 2.5
"""Standard deviations from the other side's mean beyond which a guess is sure."""
BOUNDED = 25
"""Trials between two looks whose bounds are taken; the largest counts."""
PILOT = 4
"""A quarter of the trials fixes the threshold of Clopper-Pearson's bound."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The two rules of one trial, by the scores before it: "in" above, "out" below."""

    middle: float
    high: float
    low: float

    @classmethod
    def after(cls, scores_n: Reals, coins_n: NDArray[np.int64]) -> Thresholds | None:
        """From earlier trials; None before two on each side."""
        inside, outside = scores_n[coins_n == 1], scores_n[coins_n == 0]
        if min(len(inside), len(outside)) < 2:
            return None
        spread = BEYOND * float(np.sqrt((inside.var(ddof=1) + outside.var(ddof=1)) / 2))
        return cls(
            middle=float(inside.mean() + outside.mean()) / 2,
            high=float(outside.mean()) + spread,
            low=float(inside.mean()) - spread,
        )


@dataclass(frozen=True)
class Look:
    """The counts after so many trials.

    Args:
        trials: all of them, those without a guess too. guessed: with a guess by the middle.
        right: of these. sure_right, sure_wrong: of the sure guesses.
    """

    trials: int
    guessed: int
    right: int
    sure_right: int
    sure_wrong: int


def looks_of(scores: Reals, coins: NDArray[np.int64]) -> list[Look]:
    """A look after every trial; each trial's rules come from those before it alone."""
    looks, guessed, right, sure_right, sure_wrong = [], 0, 0, 0, 0
    for i in range(len(scores)):
        rules = Thresholds.after(scores[:i], coins[:i])
        if rules is not None:
            inside, score = bool(coins[i]), float(scores[i])
            guessed += 1
            right += (score > rules.middle) == inside
            sure_in, sure_out = score > rules.high, score < rules.low
            if sure_in != sure_out:
                sure_right += sure_in == inside
                sure_wrong += sure_in != inside
        looks.append(Look(i + 1, guessed, right, sure_right, sure_wrong))
    return looks


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A campaign's answer, valid whenever it is looked at.

    Args:
        report: the verdict; its lower bound holds for any mechanism.
        mu: μ of the largest Gaussian curve that is rejected, whatever the mechanism.
        gaussian_epsilon: ε of μ-GDP: a bound where the mechanism's curve is Gaussian.
        clopper_pearson: ε by counting, where the trials were not stopped early: no verdict.
        fitted_mu: the two sides' distance over their spread: an estimate.
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
    coins: NDArray[np.int64] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`, without scores and coins."""
        return {
            **self.report.to_json(),
            "trials": self.look.trials,
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


def judged(
    scores: Reals,
    coins: NDArray[np.int64],
    *,
    epsilon: float,
    delta: float,
    confidence: float,
    own: TradeOffCurve | None,
    checks: Sequence[tuple[str, str]] = (),
) -> Campaign:
    """Test a claim on scores in the order of their trials, with any number of looks.

    Each test's p-value is the smallest of 1/E over the looks, each bound the largest: a
    consequence of Ville's inequality.

    Args:
        scores: one a trial or more. coins: 1 where the record was in.
        own: the curve of the run's accountant; without it both tests are of (ε, δ) alone.
    """
    looks, error = looks_of(scores, coins), 1 - confidence
    levels = {name: error * share for name, share in SHARES.items()}
    sure, every = SHARES
    most = right_at_most(own if own is not None else approximate_dp_tradeoff(epsilon, delta))
    claim_logs = (
        log_e_value_of_claim(k.sure_right, k.sure_wrong, k.trials, epsilon, delta) for k in looks
    )
    p_values = {
        sure: _p_value(claim_logs),
        every: _p_value(log_e_value(k.right, k.guessed, most) for k in looks),
    }
    some = [*looks[::BOUNDED], looks[-1]]
    bound = max(
        anytime_epsilon(k.sure_right, k.sure_wrong, k.trials, delta, levels[sure]) for k in some
    )
    chance = max(anytime_lower(k.right, k.guessed, levels[every]) for k in some)
    mu = max(0.0, 2 * float(ndtri(chance)))
    n = len(scores)
    rejects = {name for name, p in p_values.items() if p / SHARES[name] < error}
    report = judge(
        claim_epsilon=epsilon,
        delta=delta,
        p_value=min(1.0, *(p / SHARES[name] for name, p in p_values.items())),
        lower_bound=bound,
        ceiling=anytime_epsilon(n, 0, n, delta, levels[sure]),
        confidence=confidence,
        against=OWN if own is not None and rejects == {every} else "",
        beyond=_beyond(own, mu, delta, confidence),
        assumptions=(FAIR, SAME),
        checks=checks,
    )
    fitted = _fitted(scores, coins)
    return Campaign(
        report=report,
        look=looks[-1],
        mu=mu,
        gaussian_epsilon=mu_to_epsilon(mu, delta),
        clopper_pearson=_counted(scores, coins, delta, confidence),
        fitted_mu=fitted,
        fitted_epsilon=mu_to_epsilon(fitted, delta),
        p_values=p_values,
        scores=scores,
        coins=coins,
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


def _p_value(logs: Iterable[float]) -> float:
    """1/max E, at most 1."""
    return float(np.exp(-max(0.0, *logs, 0.0)))


def _fitted(scores: Reals, coins: NDArray[np.int64]) -> float:
    """(mean in − mean out) / common spread: μ, if the scores were normal. No bound."""
    inside, outside = scores[coins == 1], scores[coins == 0]
    if min(len(inside), len(outside)) < 2:
        return 0.0
    spread = float(np.sqrt((inside.var(ddof=1) + outside.var(ddof=1)) / 2))
    return max(0.0, float(inside.mean() - outside.mean()) / spread) if spread > 0 else 0.0


def _counted(scores: Reals, coins: NDArray[np.int64], delta: float, confidence: float) -> float:
    """Clopper-Pearson's bound with the high threshold of the first quarter, on the others."""
    first = len(scores) // PILOT
    rules = Thresholds.after(scores[:first], coins[:first])
    accused, inside = scores[first:], coins[first:] == 1
    if rules is None or inside.all() or not inside.any():
        return 0.0
    above = accused > rules.high
    false_positives, false_negatives = int((above & ~inside).sum()), int((~above & inside).sum())
    non_members, members = int((~inside).sum()), int(inside.sum())
    return clopper_pearson_epsilon(
        false_positives, non_members, false_negatives, members, delta, confidence
    )
