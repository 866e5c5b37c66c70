"""Runs keep the budget that they share: through stops, crashes, copies and resumptions."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dpigu.accountants.budgets.file import BudgetFile
from dpigu.accountants.budgets.filters import RenyiFilter
from dpigu.accountants.budgets.state import BudgetState
from dpigu.dpcore import BudgetError, Plan, Release, StepContext
from dpigu.dpcore.claim import composed
from dpigu.trainers import Data, Settings, Tensors, resume, train
from dpigu.trainers.lifecycle.spending import Spending
from torch import Tensor, nn


class Bystander:
    """Counts releases, and interrupts the run after some."""

    def __init__(self, until: int | None = None) -> None:
        self.until, self.seen = until, 0

    def extra_rows(self, phase: str, context: StepContext) -> Tensor | None:
        return None

    def see(self, phase: str, release: Release) -> None:
        self.seen += 1
        if self.seen == self.until:
            raise KeyboardInterrupt


@pytest.fixture
def budget(tmp_path: Path) -> BudgetFile:
    return BudgetFile.create(tmp_path / "points.budget", RenyiFilter(30.0, 1e-5))


Start = Callable[..., Bystander]


@pytest.fixture
def start(plan: Plan, data: Data, settings: Settings, budget: BudgetFile, tmp_path: Path) -> Start:
    """Start a run in a folder of this name, and see what it releases."""

    def run(name: str | None, until: int | None = None, **changes: object) -> Bystander:
        seen = Bystander(until)
        out = None if name is None else tmp_path / name
        chosen = dataclasses.replace(settings, **changes)
        with stopped(until):
            train(
                plan,
                data,
                nn.Linear(2, 2),
                chosen,
                out=out,
                budget=budget.path,
                observer=seen,
                progress=False,
            )
        return seen

    return run


def stopped(until: int | None):
    return contextlib.nullcontext() if until is None else pytest.raises(KeyboardInterrupt)


def go_on(folder: Path, data: Data, until: int | None = None) -> Bystander:
    seen = Bystander(until)
    with stopped(until):
        resume(folder, data=data, model=nn.Linear(2, 2), observer=seen, progress=False)
    return seen


def steps_charged(budget: BudgetFile) -> int:
    return sum(term.count for term in budget.read().charged)


def test_a_finished_run_is_charged_what_it_released(start: Start, budget: BudgetFile) -> None:
    seen = start("run")
    assert steps_charged(budget) == seen.seen == 12
    assert start(None).seen == 12
    assert steps_charged(budget) == 24


def test_a_stopped_run_gives_back_what_it_did_not_begin(start: Start, budget: BudgetFile) -> None:
    start("run", until=5)
    assert steps_charged(budget) == 5


def test_a_resumed_run_pays_for_steps_that_run_again(
    start: Start, budget: BudgetFile, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = start("run", until=5).seen + go_on(tmp_path / "run", data).seen
    assert steps_charged(budget) == seen >= 12


def test_a_crash_keeps_everything_reserved_until_the_run_goes_on(
    start: Start, budget: BudgetFile, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crash:
        crash.setattr(Spending, "settle", lambda self, ledger: None)
        first = start("run", until=5).seen
    assert steps_charged(budget) == 12
    total = first + go_on(tmp_path / "run", data).seen
    assert steps_charged(budget) == total


def test_a_copied_folder_pays_for_itself(
    start: Start, budget: BudgetFile, data: Data, tmp_path: Path
) -> None:
    released = start("run", until=5).seen
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    released += go_on(tmp_path / "run", data).seen
    released += go_on(tmp_path / "copy", data).seen
    assert steps_charged(budget) == released > 15


def test_a_copy_that_goes_on_stops_the_original(
    start: Start, budget: BudgetFile, plan: Plan, data: Data, settings: Settings, tmp_path: Path
) -> None:
    """While the first process is at work, a copy of its folder is resumed."""
    copies: list[int] = []

    class Copied(Bystander):
        def see(self, phase: str, release: Release) -> None:
            super().see(phase, release)
            if self.seen == 6:
                shutil.copytree(tmp_path / "run", tmp_path / "copy")
                copies.append(go_on(tmp_path / "copy", data).seen)

    seen = Copied()
    with pytest.raises(BudgetError, match="another process has gone on with this run"):
        train(
            plan,
            data,
            nn.Linear(2, 2),
            settings,
            out=tmp_path / "run",
            budget=budget.path,
            observer=seen,
            progress=False,
        )
    assert seen.seen == 6
    assert steps_charged(budget) >= seen.seen + copies[0]


def test_a_run_that_does_not_fit_leaves_no_trace(
    start: Start, budget: BudgetFile, tmp_path: Path
) -> None:
    before = budget.path.read_bytes()
    with pytest.raises(BudgetError, match="would overspend the budget"):
        start("run", noise_multiplier=0.3)
    assert budget.path.read_bytes() == before and not (tmp_path / "run").exists()


def test_a_run_that_claims_nothing_is_refused(start: Start, budget: BudgetFile) -> None:
    with pytest.raises(BudgetError, match="diagnostics"):
        start("run", diagnostics=True)
    assert steps_charged(budget) == 0


def test_a_resumption_cannot_lose_its_budget(
    start: Start, budget: BudgetFile, data: Data, tmp_path: Path
) -> None:
    start("run", until=5)
    other = BudgetFile.create(tmp_path / "other", RenyiFilter(30.0, 1e-5))
    with pytest.raises(BudgetError, match="not the budget that the run began with"):
        resume(tmp_path / "run", data=data, model=nn.Linear(2, 2), budget=other.path)
    budget.path.rename(tmp_path / "moved")
    with pytest.raises(BudgetError, match="no such budget"):
        go_on(tmp_path / "run", data)
    (tmp_path / "run" / "private" / "budget.json").unlink()
    with pytest.raises(BudgetError, match="cannot be read"):
        go_on(tmp_path / "run", data)
    moved = tmp_path / "moved"
    resume(tmp_path / "run", data=data, model=nn.Linear(2, 2), budget=moved, progress=False)
    assert steps_charged(BudgetFile(moved)) >= 12


def test_a_run_without_a_budget_takes_none_later(
    plan: Plan, data: Data, settings: Settings, budget: BudgetFile, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(
            plan,
            data,
            nn.Linear(2, 2),
            settings,
            out=tmp_path / "run",
            observer=Bystander(3),
            progress=False,
        )
    with pytest.raises(BudgetError, match="a run without a budget"):
        resume(tmp_path / "run", data=data, model=nn.Linear(2, 2), budget=budget.path)


def test_other_records_are_refused_and_mended_ones_are_not(
    start: Start, budget: BudgetFile, plan: Plan, data: Data, settings: Settings
) -> None:
    start(None)
    mended = data.train_x.clone()
    mended[:30] += 1.0

    def again(x: Tensor) -> None:
        changed = dataclasses.replace(data, train=Tensors(x, data.train_y))
        train(plan, changed, nn.Linear(2, 2), settings, budget=budget.path, progress=False)

    again(mended[torch.randperm(len(mended))])
    with pytest.raises(BudgetError, match="these are other records"):
        again(data.train_x + 1.0)
    assert steps_charged(budget) == 24


def test_fingerprints_are_keyed_and_nobody_elses_to_read(
    start: Start, budget: BudgetFile, tmp_path: Path
) -> None:
    start(None)
    private = tmp_path / "points.budget.private"
    assert private.stat().st_mode & 0o777 == 0o600
    views = json.loads(private.read_text())["views"]
    assert not any(print_ in budget.path.read_text() for print_ in views.values())
    private.write_text("{")
    with pytest.raises(BudgetError, match="fingerprints of the budget's records"):
        start(None)


def law_a_budget_covers_every_release(
    start: Start, budget: BudgetFile, data: Data, folder: Path, crash: pytest.MonkeyPatch
) -> None:
    """After a crash, a copy, and both going on."""
    crash.setattr(Spending, "settle", lambda self, ledger: None)
    released = start(folder.name, until=5).seen
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    released += go_on(folder, data).seen + go_on(copy, data).seen
    assert steps_charged(budget) >= released


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (Spending, "pay", lambda self, ledger: None),
        (Spending, "_since", lambda self, ledger: composed(self._plan.mechanisms, [0])),
        (Spending, "resumed", staticmethod(lambda *_: None)),
        (BudgetState, "closed", lambda self, run: dataclasses.replace(self, sessions=())),
    ],
    ids=["nothing is written ahead", "no step counts", "a resumption is free", "the past is free"],
)
def test_the_law_stops(
    owner: type,
    name: str,
    mutant: Callable[..., object],
    start: Start,
    budget: BudgetFile,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, name, mutant)
    with pytest.raises(AssertionError):
        law_a_budget_covers_every_release(start, budget, data, tmp_path / "run", monkeypatch)


def test_a_budget_covers_every_release(
    start: Start,
    budget: BudgetFile,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    law_a_budget_covers_every_release(start, budget, data, tmp_path / "run", monkeypatch)
