"""ε of a person with several records, where records are sampled and clipped one by one.

A step's sum holds j of the person's k records with probability Binomial(k, q), and each moves it by
at most C. So with and without the person it is N(0, σ²) against a mixture of N(j, σ²), in units of
C: the mixture of Gaussians. k · ε of one record, with δ grown by e^(kε), is a far worse bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from dpigu.accountants.base import NO_GUARANTEE, Epsilon, checked_delta
from dpigu.accountants.events import Term, flatten, has_guarantee
from dpigu.accountants.pld import GRID, PLD, ROUNDING
from dpigu.dpcore.errors import AccountingError

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

MOST_CELLS = 5_000
"""Cells of one release: coarser than these is faster, and ε larger."""
TAIL = 2.0**-80
"""Numbers of sampled records that are rarer than this, together, count as all k of them."""
REACH = 12.0
"""Standard deviations of the noise that a step's loss is laid out for; what is beyond is δ."""


class Mixture(NamedTuple):
    """How many of a person's records are in a batch, and how probably."""

    sensitivities: tuple[float, ...]
    probabilities: tuple[float, ...]


def binomial(records: int, rate: float) -> Mixture:
    """Of k records at rate q: P(j) = C(k, j) q^j (1 − q)^(k − j), the last ones put upon k."""
    if rate == 1.0:
        return Mixture((float(records),), (1.0,))
    log_p, log_rest = math.log(rate), math.log1p(-rate)
    logs = [
        math.lgamma(records + 1)
        - math.lgamma(j + 1)
        - math.lgamma(records - j + 1)
        + j * log_p
        + (records - j) * log_rest
        for j in range(records + 1)
    ]
    probabilities = [math.exp(value) for value in logs]
    rarer = 0.0
    kept = records
    while kept > 1 and rarer + probabilities[kept] < TAIL:
        rarer += probabilities[kept]
        kept -= 1
    if kept == records:
        return Mixture(tuple(map(float, range(records + 1))), tuple(probabilities))
    sensitivities = (*map(float, range(kept + 1)), float(records))
    return Mixture(sensitivities, (*probabilities[: kept + 1], rarer))


def group_event(event: DpEvent, records: int) -> DpEvent:
    """What an event of Poisson-sampled Gaussians is to a person with at most k records.

    Each becomes a `MixtureOfGaussiansDpEvent` of dp_accounting; one without sampling is a Gaussian
    whose sensitivity is k. A person with fewer records is covered by the same event.

    Errors: `AccountingError` for an event that no accountant here knows, or k below 1.

    Source: Choquette-Choo, Ganesh, Steinke and Thakurta 2023 (arXiv 2310.15526), corollary 4.7;
    for user-level privacy by it: Charles et al. 2024 (arXiv 2407.07737).
    """
    from dp_accounting import dp_event

    made = []
    for term in flatten(event):
        sensitivities, probabilities = binomial(checked_records(records), term.rate)
        one: DpEvent = dp_event.MixtureOfGaussiansDpEvent(
            term.noise_multiplier, sensitivities, probabilities
        )
        if term.rate == 1.0:
            one = dp_event.GaussianDpEvent(term.noise_multiplier / records)
        made.append(dp_event.SelfComposedDpEvent(one, term.count))
    return dp_event.ComposedDpEvent(made)


def group_epsilon(event: DpEvent, records: int, delta: float) -> Epsilon:
    """The smallest ε at δ for a person with at most k records, under add-or-remove-one person.

    By PLD, an upper bound: the loss of a step is discretised pessimistically, and the rounding of
    the compositions is charged to δ. One record a person is the ordinary event.

    Args:
        event: of the run, as its ledger has it: of single records.
        records: k.

    Errors: `AccountingError` as `group_event`, or for δ outside (0, 1).
    """
    delta, k = checked_delta(delta), checked_records(records)
    terms = flatten(event)
    if not has_guarantee(terms):
        return Epsilon(None, None, None, "pld", NO_GUARANTEE)
    if k == 1 or not terms:
        return PLD().epsilon(event, delta)
    steps = sum(term.count for term in terms)
    left = delta - ROUNDING * steps
    value = math.inf
    if left > 0:
        value = float(_composed(terms, k).get_epsilon_for_delta(left))
    if value == math.inf:
        note = f"no guarantee: the arithmetic of PLD cannot resolve δ = {delta:g} here"
        return Epsilon(None, None, None, "pld", note)
    return Epsilon(value, None, None, "pld")


def checked_records(records: int) -> int:
    """k, a whole number of at least 1."""
    if isinstance(records, bool) or not isinstance(records, int) or records < 1:
        raise AccountingError(
            "a person has a whole number of records, 1 or more",
            where="records",
            got=records,
            remedy="Give the most records that anybody has.",
        )
    return records


def _composed(terms: tuple[Term, ...], records: int) -> PrivacyLossDistribution:
    """The loss of all steps together, on one grid."""
    cell = max(GRID, max(_widest(term, records) for term in terms) / MOST_CELLS)
    whole: PrivacyLossDistribution | None = None
    for one, count in _releases(terms, records, cell):
        many = one.self_compose(count) if count > 1 else one
        whole = many if whole is None else whole.compose(many)
    assert whole is not None  # the caller leaves out the empty event
    return whole


def _releases(
    terms: tuple[Term, ...], records: int, cell: float
) -> Iterator[tuple[PrivacyLossDistribution, int]]:
    from dp_accounting.pld.privacy_loss_distribution import (
        from_gaussian_mechanism,
        from_mixture_gaussian_mechanism,
    )

    for term in terms:
        if term.rate == 1.0:
            joined = term.noise_multiplier / records / math.sqrt(term.count)
            yield from_gaussian_mechanism(joined, value_discretization_interval=cell), 1
            continue
        sensitivities, probabilities = binomial(records, term.rate)
        yield (
            from_mixture_gaussian_mechanism(
                term.noise_multiplier,
                sensitivities,
                probabilities,
                value_discretization_interval=cell,
            ),
            term.count,
        )


def _widest(term: Term, records: int) -> float:
    """About the largest loss of one release: ln(1 + Σ p_j e^(jx/σ − j²/2σ²)) at x = k/σ + 12."""
    mu = 1.0 / term.noise_multiplier
    top = records * mu + REACH
    mixture = binomial(records, term.rate)
    return max(
        math.log(p) + j * mu * top - (j * mu) ** 2 / 2
        for j, p in zip(*mixture, strict=True)
        if p > 0
    )
