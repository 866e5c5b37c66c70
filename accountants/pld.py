"""Privacy loss distributions, by dp-accounting: tight, and both directions of a neighbour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from dpigu.accountants.base import (
    NO_GUARANTEE,
    Epsilon,
    checked_adjacency,
    checked_delta,
    checked_epsilon,
)
from dpigu.accountants.events import Term, flatten, has_guarantee, joined_gaussian
from dpigu.accountants.renyi_orders.rdp import rdp_delta, rdp_epsilon
from dpigu.dpcore.adjacency import Adjacency

from dpigu.names import AccountantName

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
    from dpigu.accountants.events import Event

GRID = 1e-4
"""dp-accounting's own discretisation of the privacy loss, used wherever it suits."""
CELLS_PER_DEVIATION = 60
"""Refine where one release's loss spreads over fewer cells: rounding up would add up. (Below
about 50 the library takes its sparse road, which is slow for very many steps.)"""
MOST_CELLS = 100_000
"""Cells of one release, 10 µs each: neither refine nor keep the default beyond these."""
MANY, CELLS_FOR_MANY = 64, 8
"""With more different releases than these, cells are as wide as an eighth of the deviation of one
release's loss: rounding up adds (1/8)²/6 of its variance to each, so about 0.13% to ε."""
LEAST_NOISE, MOST_RATE = 0.3, 0.99
"""Beyond these our own losses are off by more than a unit of 2⁻⁵², and the library's are taken."""
ROUNDING = 2.0**-52
"""δ charged per composed release for the double-precision FFT: four times the worst measured."""


@dataclass(frozen=True)
class PLD:
    """The smallest ε with sup over both directions of E[(1 − e^(ε − L))₊] ≤ δ − n·2⁻⁵².

    L is the composed privacy loss, discretised pessimistically (connect the dots), so ε is an
    upper bound; n·2⁻⁵² covers the rounding of the FFT, which otherwise makes ε too small where
    δ is near 1e-12. Where RDP is smaller, which means that the grid cannot resolve this δ,
    RDP's ε is reported and `accountant` says so. Knows replace-one: two opposite records,
    sensitivity 2C, by dp-accounting's own relation.

    Args:
        grid: the widest cell of the loss; a wider one is faster and its ε larger.

    Source: Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022 (arXiv 2207.04380).
    """

    grid: float = GRID
    name: AccountantName = "pld"
    adjacencies: frozenset[Adjacency] = frozenset(Adjacency)

    def epsilon(
        self,
        event: Event,
        delta: float,
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    ) -> Epsilon:
        """ε of the event at δ; see `Accountant.epsilon`."""
        adjacency = checked_adjacency(self.name, self.adjacencies, adjacency)
        delta = checked_delta(delta)
        terms = flatten(event)
        if not has_guarantee(terms):
            return Epsilon(None, None, None, self.name, NO_GUARANTEE)
        if not terms:
            return Epsilon(0.0, None, None, self.name)
        left = delta - _rounding(terms)
        value = _resolved(terms, adjacency, self.grid, left)
        if adjacency is Adjacency.ADD_OR_REMOVE_ONE:
            bound = rdp_epsilon(terms, delta)
            if value is None or bound < value:
                note = f"PLD cannot resolve δ = {delta:g} as finely as RDP; this is RDP's bound"
                return Epsilon(bound, None, None, "rdp", note)
        if value is None or value == math.inf:
            note = f"no guarantee from PLD: its arithmetic cannot resolve δ = {delta:g}"
            return Epsilon(None, None, None, self.name, note)
        return Epsilon(value, None, None, self.name)

    def delta(
        self,
        event: Event,
        epsilon: float,
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    ) -> float:
        """δ of the event at ε ≥ 0, an upper bound; 1 where there is no guarantee."""
        adjacency = checked_adjacency(self.name, self.adjacencies, adjacency)
        epsilon = checked_epsilon(epsilon)
        terms = flatten(event)
        if not has_guarantee(terms):
            return 1.0
        if not terms:
            return 0.0
        value = float(_composed(terms, adjacency, self.grid).get_delta_for_epsilon(epsilon))
        bounds = [1.0, value + _rounding(terms)]
        if adjacency is Adjacency.ADD_OR_REMOVE_ONE:
            bounds.append(rdp_delta(terms, epsilon))
        return min(bounds)


def _rounding(terms: tuple[Term, ...]) -> float:
    """δ charged for the FFTs: none where nothing is composed."""
    composed = sum(joined_gaussian(term).count for term in terms)
    return ROUNDING * composed if composed > 1 else 0.0


@lru_cache(maxsize=1024)
def _resolved(
    terms: tuple[Term, ...], adjacency: Adjacency, grid: float, delta: float
) -> float | None:
    """ε at δ, or None where PLD's arithmetic ends: no δ is left, or hardly any noise is there.

    Kept: the plan of a run is charged at its calibration, at its begin and in its summary.
    """
    if delta <= 0:
        return None
    try:
        return float(_composed(terms, adjacency, grid).get_epsilon_for_delta(delta))
    except OverflowError:
        return None


@lru_cache(maxsize=2)
def _composed(
    terms: tuple[Term, ...], adjacency: Adjacency, grid: float
) -> PrivacyLossDistribution:
    """The distribution of all terms together; kept, as a curve asks for δ at hundreds of ε."""
    interval = discretisation(terms, adjacency, grid)
    joined = [joined_gaussian(term) for term in terms]
    if len(terms) > MANY and all(_proven(term, adjacency) for term in joined):
        from dpigu.accountants.gaussian_loss import composed_losses

        return composed_losses([(t.rate, t.noise_multiplier, t.count) for t in joined], interval)
    whole: PrivacyLossDistribution | None = None
    for term in joined:
        one = _one_release(Term(term.rate, term.noise_multiplier, 1), interval, adjacency)
        many = one.self_compose(term.count) if term.count > 1 else one
        whole = many if whole is None else whole.compose(many)
    assert whole is not None  # callers leave out the empty event
    return whole


def _proven(term: Term, adjacency: Adjacency) -> bool:
    """Whether our own losses are taken."""
    near = term.noise_multiplier >= LEAST_NOISE and (term.rate == 1.0 or term.rate <= MOST_RATE)
    return near and adjacency is Adjacency.ADD_OR_REMOVE_ONE


@lru_cache(maxsize=8)
def _one_release(term: Term, interval: float, adjacency: Adjacency) -> PrivacyLossDistribution:
    """Kept for a term that is asked about at several counts."""
    if _proven(term, adjacency):
        from dpigu.accountants.gaussian_loss import gaussian_loss

        return gaussian_loss(term.rate, term.noise_multiplier, interval)
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    return from_gaussian_mechanism(
        standard_deviation=term.noise_multiplier,
        value_discretization_interval=interval,
        sampling_prob=term.rate,
        neighboring_relation=NeighboringRelation[adjacency.name],
    )


def discretisation(terms: tuple[Term, ...], adjacency: Adjacency, grid: float = GRID) -> float:
    """The cell of the loss for these terms: the grid's unless that suits badly.

    Finer where one release's loss deviates by less than 60 cells of it, coarser where one
    release would fill more than 100 000, or where there are many different releases, each of
    which costs what it has cells. Whatever the cell, the result is an upper bound.
    """
    sensitivity = 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
    joined = [joined_gaussian(term) for term in terms]
    widest = max(_loss_range(t.rate, sensitivity / t.noise_multiplier) for t in joined)
    deviations = [_loss_deviation(t.rate, sensitivity / t.noise_multiplier) for t in joined]
    if len(terms) > MANY:
        releases = sum(t.count for t in joined)
        variance = sum(t.count * d**2 for t, d in zip(joined, deviations, strict=True))
        wanted = math.sqrt(variance / releases) / CELLS_FOR_MANY
    else:
        wanted = min(grid, min(deviations) / CELLS_PER_DEVIATION)
    return max(wanted, widest / MOST_CELLS)


def _loss_range(rate: float, mu: float) -> float:
    """About the width of ln(1 − q + q·e^(μx − μ²/2)) over |x − μ| ≤ 10."""
    top = 10.0 * mu + mu**2 / 2
    above = math.log1p(rate * math.expm1(min(top, 500.0))) + max(0.0, top - 500.0)
    below = 20.0 * mu - top if rate == 1.0 else min(-math.log1p(-rate), above)
    return above + max(below, 0.0)


def _loss_deviation(rate: float, mu: float) -> float:
    """About the standard deviation of one release's loss: q·√(e^(μ²) − 1), μ where q = 1."""
    return mu if rate == 1.0 else rate * math.sqrt(math.expm1(min(mu**2, 50.0)))
