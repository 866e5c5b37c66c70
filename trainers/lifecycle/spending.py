"""A run's part of a budget file: bound to its data, reserved, written down ahead, given back."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dp_accounting import DpEvent
from dpigu.accountants.budgets.file import BudgetFile, Session
from dpigu.dpcore import BudgetError, CalibratedPlan, DpiguError, RunError
from dpigu.dpcore.claim import Ledger, composed
from dpigu.dpcore.unit import called
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.data.overlap import split_fingerprints
from dpigu.trainers.data.sources import form_of, forms_of
from dpigu.trainers.lifecycle.prepare import PreparedRun
from dpigu.trainers.runs import disk
from dpigu.trainers.runs.folder import RunFolder

FILE = "budget.json"
"""In a run's `private/`: where its budget lies."""


class Spending:
    """What one start or resumption of a run reserves in a budget file, and pays from it.

    Args:
        budget: the file.
        plan: what the run may release.
        label: what the file calls the run.
    """

    def __init__(self, budget: BudgetFile, plan: CalibratedPlan, label: str) -> None:
        self._budget, self._plan, self._label = budget, plan, label
        self._session: Session | None = None
        self._before: tuple[int, ...] = ()
        self.name = budget.read().name

    @classmethod
    def begun(cls, path: Path | str, prepared: PreparedRun) -> Spending:
        """Of a new run: refused here, before there is a folder, if it would overspend."""
        budget, plan = BudgetFile(path), prepared.plan
        budget.check(plan.event(), plan.adjacency, called(prepared.data.spec.unit))
        bind(budget, prepared.data)
        return cls(budget, plan, label_of(prepared))

    @classmethod
    def resumed(
        cls, folder: RunFolder, table: Mapping[str, Any], given: Path | None, prepared: PreparedRun
    ) -> Spending | None:
        """Of a run that goes on: the budget that it began with, if it did with one."""
        budget = budget_of(folder, table, given)
        return None if budget is None else cls(budget, prepared.plan, label_of(prepared))

    def remember(self, folder: RunFolder) -> None:
        """Keep in `private/` where the budget lies, for a resumption."""
        told = {"path": str(self._budget.path.resolve())}
        folder.write_private(FILE, (json.dumps(told) + "\n").encode())

    def reserve(self, ledger: Ledger, ahead: Sequence[int]) -> None:
        """Reserve so many steps of each phase, on top of what the ledger was charged before.

        Raises: BudgetError if they do not fit what the budget has left; nothing is released then.
        """
        if ledger.head.not_private:
            raise BudgetError(
                f"a run that claims nothing cannot keep a budget: {ledger.head.not_private}",
                where=str(self._budget.path),
                remedy="Train with noise and without diagnostics, or leave out the budget.",
            )
        self._before = ledger.charged
        self._session = self._budget.open_session(
            ledger.head.run,
            self._plan.event(ahead),
            label=self._label,
            adjacency=ledger.head.adjacency,
            unit=called(ledger.head.unit),
        )

    def pay(self, ledger: Ledger) -> None:
        """Write down a block of steps before it is paid for: `ledger` as it will be."""
        assert self._session is not None
        self._session.prepay(self._since(ledger))

    def settle(self, ledger: Ledger) -> None:
        """Give back what was reserved and never began.

        A budget that cannot be written keeps all that was written down ahead: nothing is lost.
        """
        if self._session is not None:
            with contextlib.suppress(DpiguError):
                self._session.close(self._since(ledger))
            self._session = None

    def _since(self, ledger: Ledger) -> DpEvent:
        ran = [now - before for now, before in zip(ledger.charged, self._before, strict=True)]
        return composed(self._plan.mechanisms, ran)


def bind(budget: BudgetFile, data: Data) -> None:
    """Hold the records against those that the budget was opened for, or remember the first.

    The budget is of one data set, which may be seen through several fixed features: for each
    shape and scaling, keyed fingerprints of the records are kept beside the file, readable by its
    owner alone. Records may be added, mended or planted; a run on data that shares less than
    half of its records is refused, since the budget promises nothing about it.

    Raises: BudgetError for other records, or where the fingerprints cannot be read.
    """
    path = budget.path.with_name(budget.path.name + ".private")
    view = f"{forms_of(form_of(data.train)[0])} {data.spec.scaling}"
    with budget.locked():
        told = _remembered(path)
        key = bytes.fromhex(told["key"])
        own = split_fingerprints(key, data, "training")
        if view in told["views"]:
            known = np.frombuffer(base64.b64decode(told["views"][view]), dtype="<u8")
            if np.isin(own, known).mean() < 0.5:
                raise BudgetError(
                    "these are other records than those the budget is of",
                    where=str(budget.path),
                    got=data.spec.name,
                    remedy="Create a budget of their own for other records; if they are the same "
                    f"people's, delete {path.name} and they are charged to this one.",
                )
            return
        told["views"][view] = base64.b64encode(own.astype("<u8").tobytes()).decode()
        disk.write_whole(path, (json.dumps(told) + "\n").encode(), disk.PRIVATE_FILE)


def budget_of(folder: RunFolder, table: Mapping[str, Any], given: Path | None) -> BudgetFile | None:
    """The budget that a run began with, where its configuration names one.

    Raises: BudgetError if it is not to be found, or another one was given.
    """
    name = table.get("budget", {}).get("name")
    if name is None and given is None:
        return None
    try:
        path = (
            given
            if given is not None
            else Path(json.loads(disk.read(folder.private / FILE))["path"])
        )
    except (RunError, ValueError, KeyError, TypeError) as error:
        raise BudgetError(
            "where the run's budget lies cannot be read",
            where=str(folder.private / FILE),
            remedy="Name its file: `budget`.",
        ) from error
    budget = BudgetFile(path)
    if budget.read().name != name:
        raise BudgetError(
            "this is not the budget that the run began with",
            where=str(path),
            got=budget.read().name,
            expected=name or "a run without a budget",
            remedy="Give the run's own `budget`.",
        )
    return budget


def label_of(prepared: PreparedRun) -> str:
    """What a budget calls a run."""
    labels = prepared.labels
    return f"{labels.get('preset', 'custom')} on {labels.get('data', prepared.data.spec.name)}"


def _remembered(path: Path) -> dict[str, Any]:
    """What is kept beside a budget: a key, and the fingerprints of each view of its records."""
    if not path.exists():
        return {"key": secrets.token_bytes(32).hex(), "views": {}}
    try:
        told: dict[str, Any] = json.loads(disk.read(path))
        bytes.fromhex(told["key"]), told["views"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BudgetError(
            "the fingerprints of the budget's records cannot be read",
            where=str(path),
            remedy="Delete it, and the next run's records count as the budget's.",
        ) from error
    return told
