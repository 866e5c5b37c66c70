"""Observations as numbers: how much noise they hold, and how far a record moves them.

The mechanism that a run claims adds to a clipped sum independent Gaussian noise of σ or more. Of a
canary's observation o = a·b + X + s·Z the audit knows b, which says whether the canary was in the
batch; Z is standard normal and drawn last, X is what the data add, s ≥ σ and a ≤ 1 are the claim.
What is tested here is valid for any data and any training: nothing is assumed of X but that the
canaries' signs, fresh at every step, make (X, Z) as likely as (−X, −Z).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from dp_accounting import ComposedDpEvent, DpEvent, GaussianDpEvent, SelfComposedDpEvent
from dpigu.accountants import get_accountant
from dpigu.audits.statistics.fdp import mu_to_epsilon
from dpigu.audits.statistics.one_run import Reals
from dpigu.dpcore import PoissonSampler
from scipy.special import logsumexp
from scipy.stats import chi2

SHARES = (0.3, 0.6, 0.8, 0.9, 0.95, 0.97, 0.99)
"""Of the claimed noise: what an e-value of the noise bets on."""
RARE = 0.01
"""How many of the steps are bet to be without noise, where most have all of it."""
NONE = 0.03
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Standard errors of a whole run by which a record's reach is bet to pass C."""
POINTS = 400


def noise_limit(residuals: Reals, level: float) -> float:
    """The share of σ that the noise is below, at confidence 1 − level.

    r = (o − b)/σ. Given all that came before, r² is stochastically at least (s/σ)²·χ²_1, so Σ r²
    over n observations lies above (s/σ)²·χ²_n, and s/σ ≤ √(Σ r²/χ²_n(level)) but with that
    probability. Shape (n,).
    """
    return math.sqrt(float(np.square(residuals).sum()) / chi2.ppf(level, residuals.size))


def noise_log_e(residuals_Tm: Iterable[Reals]) -> float:
    """ln E of "every observation holds noise of σ or more", over the steps so far.

    A likelihood ratio of N(0, k²σ²) against N(x, s²) has mean at most 1 for k ≤ 1 ≤ s/σ, whatever
    x: it falls in |r|. E is the mean of two bets: on one k for all steps, mixed over `SHARES`; and
    on steps with hardly any noise among those with all of it.
    """
    k = np.array((*SHARES, NONE))
    every, rare = np.zeros(len(SHARES)), 0.0
    for r in residuals_Tm:
        logs = -r.size * np.log(k) - 0.5 * float(np.square(r).sum()) * (1 / k**2 - 1)
        every += logs[:-1]
        rare += float(np.logaddexp(math.log1p(-RARE), math.log(RARE) + logs[-1]))
    return float(logsumexp([logsumexp(every, b=1 / len(every)), rare], b=0.5))


def reach_log_e(residuals: Reals, expected: float) -> float:
    """ln E of "a canary in the batch moves its observation by 1 or less", in the order of steps.

    y = (o − 1)/σ of those in the batch is ξ − d with ξ symmetric given its size, and d ≥ 0. As
    exp(y − y²/2) ≤ 1 + tanh(y), whose mean is at most 0 + 1, each exp(λΣy − λ²Σy²/2) is an
    e-process; E is their mean over λ = k/√expected.

    Args:
        residuals: y, of shape (n,). expected: how many there would be in a whole run.
    Source: de la Peña 1999, for symmetric variables.
    """
    at = np.array(STRENGTHS) / math.sqrt(max(expected, 1.0))
    logs = at * float(residuals.sum()) - at**2 / 2 * float(np.square(residuals).sum())
    return float(logsumexp(logs, b=1 / len(at)))


def reach_limit(o: Reals, sigma: Reals, expected: float, level: float) -> float:
    """The reach that a canary in the batch has at least: every smaller one is rejected at `level`.

    Args:
        o, sigma: of the canaries in the batch, both of shape (n,).
    """
    if not o.size:
        return 0.0
    weight = 1 / sigma**2
    middle = float((weight * o).sum() / weight.sum())
    for a in np.linspace(0.0, max(middle, 0.0), POINTS):
        if reach_log_e((o - a) / sigma, expected) < -math.log(level):
            return max(0.0, float(a) - max(middle, 0.0) / (POINTS - 1))
    return max(middle, 0.0)


@dataclass(frozen=True, kw_only=True)
class AsClaimed:
    """What the observations say of noise and reach, if the mechanism has the form it claims.

    Args:
        noise: the noise is less than this share of the claimed one.
        reach: a record moves the sum by more than this share of C.
        epsilon: then ε is at least this; None where no accountant gives a lower end.
        confidence: of all three together.
    """

    noise: float
    reach: float
    epsilon: float | None
    confidence: float


def epsilon_at_least(
    steps: Iterable[tuple[float, float]], factor: float, delta: float
) -> float | None:
    """A lower end for ε of releases with noise `factor` times the claimed.

    Exact where every rate is 1 (μ² = Σ 1/σ²); else the lower end of PRV's interval, if it has one.

    Args:
        steps: σ and sampling rate of each.
    """
    counts: dict[tuple[float, float], int] = {}
    for sigma, rate in steps:
        counts[sigma, rate] = counts.get((sigma, rate), 0) + 1
    if not counts or not factor > 0:
        return None
    if all(rate == 1 for _, rate in counts):
        mu = math.sqrt(sum(n / (factor * sigma) ** 2 for (sigma, _), n in counts.items()))
        return mu_to_epsilon(mu, delta)
    events: list[DpEvent] = [
        SelfComposedDpEvent(PoissonSampler(rate, 1).event(GaussianDpEvent(factor * sigma)), n)
        for (sigma, rate), n in counts.items()
    ]
    return get_accountant("prv").epsilon(ComposedDpEvent(events), delta).lower
