"""What a budget file holds: the filter, and every session of every run that named it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dpigu.accountants.budgets.filters import (
    DeclaredReleases,
    Filter,
    RenyiFilter,
    counts_of,
    terms_of,
)
from dpigu.accountants.events import Term
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import BudgetError
from dpigu.dpcore.unit import RECORD

FORMAT = 1


@dataclass(frozen=True)
class SessionEntry:
    """What one start or resumption of a run reserved, and what of it may have been released.

    Args:
        run: the run's identifier, the same after every resumption.
        label: what the run calls itself, such as "dpsgd on mnist".
        reserved: all that the session may release.
        ahead: what was written down before it was released; at most `reserved`.
        open: whether it may still release something.
    """

    run: str
    label: str
    reserved: tuple[Term, ...]
    ahead: tuple[Term, ...] = ()
    open: bool = True

    @property
    def charged(self) -> tuple[Term, ...]:
        """What the budget is charged: the reservation while it is open, then what ran."""
        return self.reserved if self.open else self.ahead


@dataclass(frozen=True)
class BudgetState:
    """A budget file as read: its random name, the filter, the relation, and every session.

    `unit` is what the unit of privacy is called, in all its runs; None before the first.
    """

    name: str
    filter: Filter
    adjacency: Adjacency
    sessions: tuple[SessionEntry, ...] = ()
    unit: str | None = None

    @property
    def charged(self) -> tuple[Term, ...]:
        """The canonical terms of everything that is charged."""
        return terms_of(counts_of(t for entry in self.sessions for t in entry.charged))

    @property
    def share(self) -> float:
        """The part of the budget that is taken."""
        return self.filter.share(self.charged)

    def closed(self, run: str) -> BudgetState:
        """With every session of this run closed at what may have been released."""
        sessions = tuple(
            replace(entry, open=False) if entry.run == run else entry for entry in self.sessions
        )
        return replace(self, sessions=sessions)


def table_of(state: BudgetState) -> dict[str, Any]:
    """A budget as plain data, with a digest that shows damage."""
    kind: dict[str, Any] = {"kind": "declared", "releases": None}
    if isinstance(state.filter, RenyiFilter):
        kind = {"kind": "renyi", "order": state.filter.order}
    elif isinstance(state.filter, DeclaredReleases):
        kind["releases"] = _rows(state.filter.releases)
    body = {
        "format": FORMAT,
        "name": state.name,
        "epsilon": state.filter.epsilon,
        "delta": state.filter.delta,
        "adjacency": str(state.adjacency),
        "unit": state.unit,
        "filter": kind,
        "sessions": [
            {
                "run": entry.run,
                "label": entry.label,
                "open": entry.open,
                "reserved": _rows(entry.reserved),
                "ahead": _rows(entry.ahead),
            }
            for entry in state.sessions
        ],
    }
    return {**body, "digest": _digest(body)}


def state_of(table: dict[str, Any], where: str) -> BudgetState:
    """The inverse of `table_of`."""
    body = {key: value for key, value in table.items() if key != "digest"}
    if table["format"] != FORMAT:
        raise BudgetError(
            "this budget has another format version",
            where=where,
            got=table["format"],
            expected=FORMAT,
            remedy="Read it with the version of dpigu that wrote it.",
        )
    if table["digest"] != _digest(body):
        raise ValueError("its digest does not match its content")
    epsilon, delta, kind = table["epsilon"], table["delta"], table["filter"]
    filters: dict[str, Any] = {
        "renyi": lambda: RenyiFilter(epsilon, delta, kind["order"]),
        "declared": lambda: DeclaredReleases(epsilon, delta, _terms(kind["releases"])),
    }
    sessions = tuple(
        SessionEntry(
            entry["run"],
            entry["label"],
            _terms(entry["reserved"]),
            _terms(entry["ahead"]),
            entry["open"],
        )
        for entry in table["sessions"]
    )
    filter, relation = filters[kind["kind"]](), Adjacency(table["adjacency"])
    unit = table.get("unit", RECORD if sessions else None)
    return BudgetState(table["name"], filter, relation, sessions, unit)


def _rows(terms: tuple[Term, ...]) -> list[list[float]]:
    return [[term.rate, term.noise_multiplier, term.count] for term in terms]


def _terms(rows: list[list[Any]]) -> tuple[Term, ...]:
    return tuple(Term(float(q), float(z), int(n)) for q, z, n in rows)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
