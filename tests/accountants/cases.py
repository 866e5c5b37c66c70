"""Events to account for, and accountants with one mistake each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dpigu.accountants import Epsilon
from dpigu.accountants.events import Term, flatten
from dpigu.accountants.renyi_orders.rdp import RDP
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import AccountingError


def steps(rate: float, noise_multiplier: float, count: int = 1) -> DpEvent:
    """`count` steps of DP-SGD."""
    step = PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier))
    return SelfComposedDpEvent(step, count)


def phases(*events: DpEvent) -> DpEvent:
    """One after the other."""
    return ComposedDpEvent(list(events))


def rebuilt(terms: tuple[Term, ...]) -> DpEvent:
    """An event with these canonical terms."""
    return phases(*(steps(t.rate, t.noise_multiplier, t.count) for t in terms))


@dataclass(frozen=True)
class AccountantMutant:
    """RDP with one mistake: in what it reads, or in what it answers."""

    name: str
    read: Callable[[DpEvent], DpEvent] = lambda event: event
    answer: Callable[[Epsilon, DpEvent], Epsilon] = lambda epsilon, event: epsilon
    adjacencies: frozenset[Adjacency] = frozenset({Adjacency.ADD_OR_REMOVE_ONE})

    def epsilon(
        self,
        event: DpEvent,
        delta: float,
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    ) -> Epsilon:
        return self.answer(RDP().epsilon(self.read(event), delta, adjacency), event)


@dataclass(frozen=True)
class Lenient(AccountantMutant):
    """Takes what RDP refuses for free."""

    def epsilon(
        self,
        event: DpEvent,
        delta: float,
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    ) -> Epsilon:
        try:
            return super().epsilon(event, delta, adjacency)
        except AccountingError:
            return Epsilon(0.0, None, None, self.name)


def changed(**change: Callable[[Term], object]) -> Callable[[DpEvent], DpEvent]:
    """Reads each term with some fields changed; non-private events stay so."""

    def read(event: DpEvent) -> DpEvent:
        terms = flatten(event)
        return rebuilt(
            tuple(replace(t, **{field: to(t) for field, to in change.items()}) for t in terms)
        )

    return read


def first_phase(event: DpEvent) -> DpEvent:
    """Only the first part of a composition."""
    if isinstance(event, ComposedDpEvent) and event.events:
        return event.events[0]
    return event


def last_count_squared(event: DpEvent) -> DpEvent:
    """Runs the last part of a composition once more: order then matters."""
    if isinstance(event, ComposedDpEvent) and event.events:
        return phases(*event.events, event.events[-1])
    return event


def without_non_private(event: DpEvent) -> DpEvent:
    """Treats what has no noise as free."""
    if all(term.noise_multiplier > 0 for term in flatten(event)):
        return event
    return NoOpDpEvent()
