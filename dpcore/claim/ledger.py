"""The ledger's format: a head that describes every mechanism, then a chain of charges.

A ledger is a text of JSON lines. The head is line 0. Every other line carries its number, and
under `before` the SHA-256 of the line before it, so a line that was lost, added or changed is
seen. docs/ledger.md describes the format and what it does not show.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from dp_accounting import ComposedDpEvent, DpEvent, NonPrivateDpEvent, SelfComposedDpEvent
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.claim.events import event_from_dict, event_to_dict
from dpigu.dpcore.errors import AccountingError, DataError, RunError
from dpigu.dpcore.unit import Unit

FORMAT = 1
Kind = Literal["charge", "unused", "torn", "end"]
"""Steps paid ahead; those of the line before that never ran; damage; how the run ended."""
Ending = Literal["plan", "budget", "choice"]
"""All steps ran; the target ε pays for no more; somebody who saw releases stopped it."""


@dataclass(frozen=True)
class Mechanism:
    """What one step of a phase releases, or the steps of one period.

    Args:
        name: the phase's.
        planned: how many steps the calibrated plan has.
        event: of `period` steps, the look at an update included.
        rate, noise_multiplier: of the step's own release, to be read by people.
        look_rate, look_noise_multiplier: of its selective update, if it has one.
        period: how many steps in a row one event pays for; a part of them costs as much.
        turns: a record joins at most one step in so many; None: one in a period.
    """

    name: str
    planned: int
    event: DpEvent
    rate: float
    noise_multiplier: float
    look_rate: float | None = None
    look_noise_multiplier: float | None = None
    period: int = 1
    turns: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        told = {**vars(self), "event": event_to_dict(self.event)}
        return told if self.turns is not None else {k: told[k] for k in told if k != "turns"}


def composed(mechanisms: Sequence[Mechanism], counts: Sequence[int]) -> DpEvent:
    """The event of so many steps of each mechanism: the only source of what accountants read."""
    if any(isinstance(mechanism.event, NonPrivateDpEvent) for mechanism in mechanisms):
        return NonPrivateDpEvent()
    return ComposedDpEvent(
        [
            SelfComposedDpEvent(mechanism.event, math.ceil(count / mechanism.period))
            for mechanism, count in zip(mechanisms, counts, strict=True)
            if count
        ]
    )


@dataclass(frozen=True)
class Head:
    """What is fixed before the first step: the claim, the mechanisms and the configuration.

    Args:
        run: a random name of the run, which every copy of its folder shares.
        configuration: SHA-256 of the run's configuration, in hexadecimal.
        delta, accountant, adjacency: of the claim.
        epsilon: the target, or None.
        records: declared number of records, or of units.
        block: the most steps that one line pays for.
        not_private: why the run claims nothing; empty if it does.
        mechanisms: one a phase, in order.
        unit: the unit of privacy, where it is not one record.
    """

    run: str
    configuration: str
    delta: float
    accountant: str
    adjacency: Adjacency
    epsilon: float | None
    records: int
    block: int
    not_private: str
    mechanisms: tuple[Mechanism, ...]
    unit: Unit | None = None

    def line(self) -> bytes:
        """The head as the first line of a ledger."""
        unit = None if self.unit is None else vars(self.unit)
        told = {**vars(self), "mechanisms": [m.to_dict() for m in self.mechanisms], "unit": unit}
        return _line({"format": FORMAT, **told})


@dataclass(frozen=True)
class Ledger:
    """A ledger as far as it has been read.

    Attributes:
        head: the first line.
        charged: the steps that were paid for of each mechanism, in the head's order.
        digests: SHA-256 of every line, the head's first.
        last: the last line's kind; "head" at first.
        open_steps: steps of the last line that may still be found unused.
        mechanism: the one that was charged last, by its place.
        ended: how the run ended, or None while it goes on.
        skipped: of the steps paid for, those that never ran, at the end of a period that was cut.
    """

    head: Head
    charged: tuple[int, ...]
    digests: tuple[str, ...]
    last: str = "head"
    open_steps: int = 0
    mechanism: int = 0
    ended: str | None = None
    where: str = "ledger"
    skipped: tuple[int, ...] = ()

    @property
    def ran(self) -> tuple[int, ...]:
        """The steps of each mechanism that were paid for and ran, repeated ones again."""
        skipped = self.skipped or (0,) * len(self.charged)
        return tuple(paid - rest for paid, rest in zip(self.charged, skipped, strict=True))

    @property
    def lines(self) -> int:
        """How many lines there are, the head included."""
        return len(self.digests)

    @property
    def digest(self) -> str:
        """SHA-256 of the last line: the whole ledger hangs on it."""
        return self.digests[-1]

    @property
    def steps(self) -> int:
        """How many steps were paid for."""
        return sum(self.charged)

    @property
    def event(self) -> DpEvent:
        """What was paid for, as the accountants read it."""
        return composed(self.head.mechanisms, self.charged)

    @property
    def complete(self) -> bool:
        """Whether the number of steps was fixed beforehand: the plan, or all the target pays for.

        Otherwise whoever stopped the run may have looked at its releases, and its ε is what was
        spent so far, not a claim.
        """
        return self.ended in ("plan", "budget")

    def charge(self, mechanism: str, steps: int) -> bytes:
        """The line that pays for so many steps of a mechanism."""
        return self._next("charge", mechanism=mechanism, steps=steps)

    def rest(self, mechanism: str, steps: int) -> bytes:
        """The line that pays for steps which never run: those of a period that was cut."""
        return self._next("charge", mechanism=mechanism, steps=steps, rest=True)

    def unused(self, steps: int) -> bytes:
        """The line that takes back steps of the line before it, which never ran."""
        return self._next("unused", steps=steps)

    def end(self, how: Ending) -> bytes:
        """The line that says how the run ended."""
        return self._next("end", how=how)

    def torn(self) -> bytes:
        """The line after one that a crash cut short."""
        return self._next("torn")

    def _next(self, kind: Kind, **told: object) -> bytes:
        return _line({"line": self.lines, "kind": kind, **told, "before": self.digest})

    def after(self, line: bytes) -> Ledger:
        """The ledger with one line more.

        Raises: RunError for a line that does not chain or says what it cannot.
        """
        try:
            told = json.loads(line)
            kind, number, before = told["kind"], told["line"], told["before"]
            if kind not in get_args(Kind) or number != self.lines or before != self.digest:
                raise ValueError
            changed = getattr(self, f"_after_{kind}")(told)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise self.damaged(self.lines) from error
        return replace(self, **changed, digests=(*self.digests, _sha(line)), last=kind)

    def _after_charge(self, told: Mapping[str, Any]) -> dict[str, Any]:
        names = [mechanism.name for mechanism in self.head.mechanisms]
        at, steps = names.index(told["mechanism"]), told["steps"]
        if type(steps) is not int or not 0 < steps <= self.head.block:
            raise ValueError
        return {
            "charged": self._plus({at: steps}),
            "open_steps": steps,
            "mechanism": at,
            "ended": None,
            "skipped": self._skipping(at, steps) if told.get("rest", False) else self.skipped,
        }

    def _after_unused(self, told: Mapping[str, Any]) -> dict[str, Any]:
        steps = told["steps"]
        if type(steps) is not int or not 0 < steps <= self.open_steps:
            raise ValueError
        return {"charged": self._plus({self.mechanism: -steps}), "open_steps": 0}

    def _after_torn(self, told: Mapping[str, Any]) -> dict[str, Any]:
        if self.last != "cut":
            raise ValueError
        return {"open_steps": 0}

    def _after_end(self, told: Mapping[str, Any]) -> dict[str, Any]:
        if told["how"] not in get_args(Ending):
            raise ValueError
        return {"ended": told["how"], "open_steps": 0}

    def cut(self, line: bytes) -> Ledger:
        """The ledger with a line that was cut short, of which nobody knows what it paid for.

        It is charged as a whole block of every mechanism.
        """
        charged = self._plus(dict.fromkeys(range(len(self.charged)), self.head.block))
        digests = (*self.digests, _sha(line))
        return replace(self, charged=charged, digests=digests, last="cut", open_steps=0, ended=None)

    def _skipping(self, at: int, steps: int) -> tuple[int, ...]:
        skipped = self.skipped or (0,) * len(self.charged)
        return tuple(count + steps * (i == at) for i, count in enumerate(skipped))

    def _plus(self, more: Mapping[int, int]) -> tuple[int, ...]:
        return tuple(count + more.get(i, 0) for i, count in enumerate(self.charged))

    def damaged(self, number: int) -> RunError:
        """The error for a ledger that is not what was written."""
        return RunError(
            "the ledger is damaged: this line does not follow from the one before it",
            where=f"{self.where}, line {number}",
            remedy="Restore the run folder whole; ε of a damaged ledger would be a guess.",
        )


def read_ledger(text: bytes, where: str = "ledger") -> Ledger:
    """The ledger in a file's bytes; they are not changed.

    A last line without its end counts: as it stands if it is whole, else by `Ledger.cut`.

    Raises: RunError if the head cannot be read, is of another format, or the lines do not chain.
    """
    whole, newline, tail = text.rpartition(b"\n")
    lines = whole.split(b"\n") if newline else []
    if not lines:
        raise RunError("the ledger has no whole head", where=where, got=f"{len(text)} bytes")
    ledger = Ledger(*_head(lines[0], where), where=where)
    for i, line in enumerate(lines[1:], start=1):
        try:
            ledger = ledger.after(line)
        except RunError:
            followed = i + 1 < len(lines) and _is_torn_mark(lines[i + 1])
            if not followed:
                raise
            ledger = ledger.cut(line)
    if tail:
        try:
            return ledger.after(tail)
        except RunError:
            return ledger.cut(tail)
    return ledger


def _head(line: bytes, where: str) -> tuple[Head, tuple[int, ...], tuple[str, ...]]:
    try:
        told = dict(json.loads(line))
        given = told.pop("format")
        if given != FORMAT:
            raise RunError("a ledger of another format", where=where, got=given, expected=FORMAT)
        mechanisms = tuple(
            Mechanism(**{**m, "event": event_from_dict(m["event"])}) for m in told["mechanisms"]
        )
        told |= {"adjacency": Adjacency(told["adjacency"]), "mechanisms": mechanisms}
        if (unit := told.get("unit")) is not None:
            told["unit"] = Unit(**unit)
        head = Head(**told)
    except (ValueError, KeyError, TypeError, AccountingError, DataError) as error:
        raise RunError("the ledger's head cannot be read", where=where) from error
    return head, (0,) * len(mechanisms), (_sha(line),)


def _is_torn_mark(line: bytes) -> bool:
    try:
        return bool(json.loads(line)["kind"] == "torn")
    except (ValueError, KeyError, TypeError):
        return False


def _line(told: Mapping[str, object]) -> bytes:
    return json.dumps(told, allow_nan=False).encode()


def _sha(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
