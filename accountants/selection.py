"""ε of choosing the best of a random number of trials, and of the final run with that choice."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dpigu.accountants.base import NO_GUARANTEE, Epsilon, checked_delta
from dpigu.accountants.events import flatten, has_guarantee
from dpigu.dpcore.errors import AccountingError

if TYPE_CHECKING:
    from dp_accounting import DpEvent

LOGARITHMIC, GEOMETRIC, POISSON = 0.0, 1.0, math.inf
_FEW, _MOST = 4.0, 1e6
_NAMES = {LOGARITHMIC: "logarithmic", GEOMETRIC: "geometric", POISSON: "Poisson"}
_NEGLIGIBLE_NOISE = 1e6


@dataclass(frozen=True)
class Trials:
    """How many trials there are: K from D_{η,γ} with η = `shape`, or from a Poisson distribution.

    For 0 ≤ η < ∞, P(K = k) ∝ (1 − γ)^k Π_{l<k} (l + η)/(l + 1) for k ≥ 1 (at η = 0 the limit,
    (1 − γ)^k / k), with γ such that E[K] is the mean:

        E[K] = η (1/γ − 1)/(1 − γ^η),  at η = 0: (1/γ − 1)/ln(1/γ),  at η = 1: 1/γ.

    At η = ∞, K is Poisson: it is 0 with probability e^−mean, and then nothing is chosen.

    Attributes:
        mean: E[K], from 1 to 1e6; anything else is an AccountingError.
        shape: η ≥ 0: 0 is the logarithmic distribution, 1 the geometric, ∞ Poisson.

    Source: Papernot, Steinke 2022 (arXiv 2110.03620), Definition 1.
    """

    mean: float
    shape: float

    def __post_init__(self) -> None:
        if not 1 <= self.mean <= _MOST:
            raise AccountingError(
                "this is not a mean number of trials that can be charged",
                where="mean",
                got=self.mean,
                expected=f"1 ≤ mean ≤ {_MOST:g}",
                remedy="Take 4, or the number of trials that you can afford.",
            )
        if not self.shape >= 0:
            raise AccountingError(
                "this is not the shape of a number of trials that can be charged",
                where="shape",
                got=self.shape,
                expected="η ≥ 0, or ∞ for Poisson",
                remedy="Take 0 (logarithmic), 1 (geometric) or ∞ (Poisson).",
            )

    @property
    def name(self) -> str:
        """What the distribution is called."""
        return _NAMES.get(self.shape, "truncated negative binomial")

    @cached_property
    def gamma(self) -> float | None:
        """γ in (0, 1], from the mean; None for Poisson, which has none."""
        if self.shape == POISSON:
            return None
        if self.mean == 1:
            return 1.0
        from scipy.optimize import brentq

        upper = 2 * math.log(self.mean)  # E[K] ≥ (1/γ − 1)/ln(1/γ) ≥ γ^(−1/2)
        root = brentq(lambda x: _mean(x, self.shape) - self.mean, 0.0, upper, xtol=1e-15)
        return math.exp(-float(root))

    def probability(self, k: int) -> float:
        """P(K = k)."""
        gamma, eta = self.gamma, self.shape
        if k < 0 or (k == 0 and gamma is not None):
            return 0.0
        if gamma is None:
            return math.exp(k * math.log(self.mean) - self.mean - math.lgamma(k + 1))
        if gamma == 1:
            return float(k == 1)
        tail = k * math.log1p(-gamma)
        if eta == LOGARITHMIC:
            return math.exp(tail) / (k * -math.log(gamma))
        ways = math.lgamma(k + eta) - math.lgamma(eta) - math.lgamma(k + 1)
        return math.exp(ways + tail) / math.expm1(-eta * math.log(gamma))

    def __str__(self) -> str:
        gamma = "" if self.gamma is None else f"η = {self.shape:g}, γ = {self.gamma:.4g}, "
        return f"{self.name} ({gamma}mean {self.mean:g})"


def tuned_epsilon(
    trial: DpEvent,
    final: DpEvent | None,
    delta: float,
    *,
    trials: Trials | None = None,
    score: DpEvent | None = None,
) -> Epsilon:
    """ε of releasing what the best of K trials says, then of the final run with that choice.

    With a trial of RDP r(α), the choice has, for every α > 1 and the best α̂ ≥ 1,

        r(α) + (1+η)(1 − 1/α̂) r(α̂) + (1+η) ln(1/γ)/α̂ + ln E[K]/(α − 1),

    or, for Poisson, r(α) + E[K] δ̂ + ln E[K]/(α − 1), where a trial is (ln(1 + 1/(α−1)), δ̂)-DP.
    dp-accounting computes it. The final run is composed. A validation record and a trained-on
    record have an ε each; the larger is claimed. Add-or-remove only.

    It holds where K is drawn from `trials` and stays secret, as does the time taken; where every
    trial draws its candidate afresh from a distribution fixed beforehand; and where nothing of the
    losers is released. Anything else, such as a fixed number of trials or a grid walked through,
    is a composition of all trials.

    Args:
        trial: one trial's training, of the costliest candidate: the others may differ in what
            the event does not hold (learning rate, clip, pruning rate).
        final: the final run, on all data; None where the best trial's own model is released.
        delta: δ in (0, 1).
        trials: the distribution of K; None is `cheapest_trials` of mean 4.
        score: what a trial's score costs a validation record, `GaussianDpEvent(σ)` for a count of
            records right with noise of standard deviation σ. Validation and training records of
            the trials are disjoint, each set apart by itself, so a record pays for one of the two.
            None only where scores read nothing that the claim covers.

    Returns:
        By RDP; `note` names the distribution of K, or says why there is no guarantee.

    Raises:
        AccountingError: δ outside (0, 1), or an event that the accountants do not know.

    Source: Papernot, Steinke 2022 (arXiv 2110.03620), Theorems 2 and 6.
    """
    delta = checked_delta(delta)
    parts = [trial] if score is None else [trial, score]
    events = parts if final is None else [*parts, final]
    if not all(has_guarantee(flatten(event)) for event in events):
        return Epsilon(None, None, None, "rdp", NO_GUARANTEE)
    if trials is None:
        trials = cheapest_trials(trial, final, delta, score=score)
    value = max(_chosen(part, final, delta, trials) for part in parts)
    return Epsilon(value, None, None, "rdp", f"the number of trials is {trials}")


def cheapest_trials(
    trial: DpEvent,
    final: DpEvent | None,
    delta: float,
    *,
    mean: float = _FEW,
    score: DpEvent | None = None,
) -> Trials:
    """The logarithmic or the Poisson distribution of this mean, whichever gives the smaller ε.

    The choice reads public numbers only, so it is free if made before the first trial. Poisson is
    the cheaper, and the steadier, for few trials; the logarithmic distribution for many, and it
    never costs more than the geometric one of this mean. Raises what `tuned_epsilon` raises.
    """

    def cost(trials: Trials) -> float:
        value = tuned_epsilon(trial, final, delta, trials=trials, score=score).value
        return math.inf if value is None else value

    return min((Trials(mean, POISSON), Trials(mean, LOGARITHMIC)), key=cost)


def _chosen(part: DpEvent, final: DpEvent | None, delta: float, trials: Trials) -> float:
    """ε of the choice and the final run for a record that a trial costs `part`.

    A trial is charged one more Gaussian of multiplier 1e6, which cannot lower ε: the library
    takes a logarithm that fails where a divergence is below 1e-16 but not 0.
    """
    from dp_accounting import ComposedDpEvent, GaussianDpEvent
    from dp_accounting.dp_event import RepeatAndSelectDpEvent
    from dp_accounting.rdp import RdpAccountant, compute_epsilon

    charged = ComposedDpEvent([part, GaussianDpEvent(_NEGLIGIBLE_NOISE)])
    with _quiet():
        accountant = RdpAccountant()
        accountant.compose(RepeatAndSelectDpEvent(charged, trials.mean, trials.shape))
        if final is not None:
            accountant.compose(final)
        return float(compute_epsilon(accountant.orders, accountant.rdp, delta)[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Orders whose series does not converge are left out, which is safe: no warning for each."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _mean(x: float, eta: float) -> float:
    """E[K] at γ = e^−x, for a finite shape."""
    if x == 0:
        return 1.0
    return math.expm1(x) / (x if eta == LOGARITHMIC else -math.expm1(-eta * x) / eta)
