"""The budget file: what every run on a data set may release, reserved before it is released.

A run opens a *session* each time that it starts or is resumed. The session reserves all that it
may release, writes down ahead of every block of steps that the block may be released, and is
closed at what was. Whatever is not known to be unreleased stays charged:

- a crashed session keeps its whole reservation until the run is resumed, and then what was
  written down ahead;
- resuming a run closes its open sessions first, so a second process, or a copy of the run's
  folder, that goes on with the same run stops the other one at its next block, and pays for its
  own steps itself. Nothing that a run folder says is believed.

Giving back what a session did not release is sound: the filters bound what **is** released under
any adaptive choice, and stopping early is such a choice.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpigu.accountants.budgets.filters import (
    DeclaredReleases,
    Filter,
    RenyiFilter,
    counts_of,
)
from dpigu.accountants.budgets.state import BudgetState, SessionEntry, state_of, table_of
from dpigu.accountants.events import Term, flatten
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import BudgetError
from dpigu.dpcore.unit import RECORD

if TYPE_CHECKING:
    from dp_accounting import DpEvent


class BudgetFile:
    """A budget on disk: read, and changed under a lock, whole and durably or not at all.

    Args:
        path: the file; `<path>.lock` beside it is the lock.

    Errors: `BudgetError` for a file that is missing, damaged, of another format, or that
    cannot be written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def create(
        cls,
        path: Path | str,
        filter: Filter,
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    ) -> BudgetFile:
        """A new budget file; an error if one is there."""
        if isinstance(filter, RenyiFilter) and adjacency is not Adjacency.ADD_OR_REMOVE_ONE:
            raise BudgetError(
                "Rényi accounting charges add-or-remove-one only",
                where="adjacency",
                got=str(adjacency),
                remedy="Declare the runs at creation: PLD charges every relation.",
            )
        file = cls(path)
        with file.locked():
            if file.path.exists():
                raise BudgetError(
                    "there is a file already, and a budget is never replaced",
                    where=str(path),
                    remedy="Give another path, or go on with the budget that is there.",
                )
            file._write(BudgetState(secrets.token_hex(16), filter, adjacency))
        return file

    def read(self) -> BudgetState:
        """The budget as it stands."""
        try:
            table = json.loads(self.path.read_text(encoding="utf-8"))
            return state_of(table, str(self.path))
        except FileNotFoundError as error:
            raise BudgetError(
                "there is no such budget",
                where=str(self.path),
                remedy="Create it first, as `dpigu budget create` does.",
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BudgetError(
                "the budget cannot be read, so nothing can be charged to it",
                where=str(self.path),
                got=str(error) or type(error).__name__,
                remedy="Restore the newest copy; an older one forgets what was released since.",
            ) from error

    def open_session(
        self,
        run: str,
        event: DpEvent,
        *,
        label: str = "",
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
        unit: str = RECORD,
    ) -> Session:
        """Reserve all that a start or a resumption of a run may release.

        Sessions of the same run that are still open are closed first.

        Errors: `BudgetError` if it does not fit what is left, or is no private event.
        """
        with self.locked():
            after = self._with(run, event, label, adjacency, unit)
            self._write(after)
        return Session(self, len(after.sessions) - 1)

    def check(self, event: DpEvent, adjacency: Adjacency, unit: str = RECORD) -> None:
        """The error that `open_session` of a new run would raise; nothing is written."""
        self._with("", event, "", adjacency, unit)

    def _with(
        self, run: str, event: DpEvent, label: str, adjacency: Adjacency, unit: str
    ) -> BudgetState:
        """The budget with one more session, or its refusal."""
        reserved = flatten(event)
        state = self.read().closed(run)
        if state.adjacency is not adjacency:
            raise BudgetError(
                "the budget is of another neighbouring relation",
                where=str(self.path),
                got=str(adjacency),
                expected=str(state.adjacency),
            )
        if state.unit not in (None, unit):
            raise BudgetError(
                "the budget is of another unit of privacy",
                where=str(self.path),
                got=unit,
                expected=state.unit,
                remedy="Let all runs of a budget protect the same unit, or create another budget.",
            )
        before = state.share
        state = replace(state, filter=state.filter.prepared(reserved))
        entry = SessionEntry(run, label, reserved)
        after = replace(state, sessions=(*state.sessions, entry), unit=unit)
        if not after.share <= 1:
            raise _refusal(self.path, state.filter, before, after.share)
        return after

    def close_run(self, name: str) -> BudgetState:
        """Close a run's open sessions at what was written down ahead; the rest comes back.

        Args:
            name: the run's, or how it begins; a process at work on it stops at its next block.
        """
        with self.locked():
            state = self.read()
            runs = {entry.run for entry in state.sessions if entry.run.startswith(name)}
            if len(runs) != 1:
                raise BudgetError(
                    "this names no run of the budget, or several",
                    where=str(self.path),
                    got=name,
                    expected=", ".join(sorted({entry.run for entry in state.sessions})) or "a run",
                )
            state = state.closed(runs.pop())
            self._write(state)
        return state

    def change(self, index: int, ahead: tuple[Term, ...], *, close: bool) -> None:
        """Write down what a session may have released, and close it if that is all."""
        with self.locked():
            state = self.read()
            entry = state.sessions[index] if index < len(state.sessions) else None
            if entry is None or not entry.open:
                raise BudgetError(
                    "another process has gone on with this run, so this one must stop",
                    where=str(self.path),
                    remedy="Leave the run to the other process.",
                )
            reserved, wanted = counts_of(entry.reserved), counts_of(ahead)
            if any(n > reserved[key] for key, n in wanted.items()):
                raise BudgetError(
                    "a run would release more than it reserved",
                    where=str(self.path),
                    got=_text(ahead),
                    expected=f"at most {_text(entry.reserved)}",
                )
            changed = replace(entry, ahead=ahead, open=not close)
            sessions = (*state.sessions[:index], changed, *state.sessions[index + 1 :])
            self._write(replace(state, sessions=sessions))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock beside the file; processes wait for each other."""
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _write(self, state: BudgetState) -> None:
        """Replace the file, durably: the new content is on the disk before this returns."""
        new = self.path.with_name(self.path.name + ".new")
        try:
            with new.open("w", encoding="utf-8") as file:
                file.write(json.dumps(table_of(state), indent=1, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            folder = os.open(self.path.resolve().parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _unwritable(self.path, error) from error


class Session:
    """One start or resumption of a run, holding its reservation in a budget file."""

    def __init__(self, file: BudgetFile, index: int) -> None:
        self._file = file
        self._index = index

    def prepay(self, event: DpEvent) -> None:
        """Write down all that this session will have released after the next block of steps.

        Called before the block's first release; nothing may be released that was not.

        Errors: `BudgetError` if another process has gone on with the run, or this passes what
        the session reserved.
        """
        self._file.change(self._index, flatten(event), close=False)

    def close(self, event: DpEvent) -> None:
        """Give back what was reserved and not released: `event` is all that was."""
        self._file.change(self._index, flatten(event), close=True)


def _refusal(path: Path, filter: Filter, before: float, after: float) -> BudgetError:
    wanted = "more than any budget has" if after == float("inf") else f"{after - before:.4g}"
    return BudgetError(
        "this run would overspend the budget, so nothing was released",
        where=str(path),
        got=f"{wanted} of the budget",
        expected=f"at most {max(0.0, 1 - before):.4g}, which is left of "
        f"ε = {filter.epsilon:g} at δ = {filter.delta:g}",
        remedy=_REMEDY[type(filter)],
    )


_REMEDY: Mapping[type, str] = {
    RenyiFilter: "Lower `epsilon` or the steps, and calibrate with the accountant rdp, by which "
    "the budget composes.",
    DeclaredReleases: "Train one of the declared runs, with the rate and the noise that were "
    "declared.",
}


def _unwritable(path: Path, error: OSError) -> BudgetError:
    return BudgetError(
        f"the budget cannot be written: {error.strerror or error}, so nothing was released",
        where=str(path),
    )


def _text(terms: tuple[Term, ...]) -> str:
    parts = [f"{t.count} × (rate {t.rate:g}, σ {t.noise_multiplier:g})" for t in terms]
    return ", ".join(parts) or "nothing"
