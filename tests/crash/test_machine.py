"""Whatever is done to run folders, the ε that one states is never below that of its releases.

A bystander counts what the kernels release, by σ and rate as they ran, for every folder and the
folders that it was copied from. The rules create, train, stop, kill, copy, damage, edit and resume.
All runs share one budget file, and another bystander counts all releases for it.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dpigu.accountants import get_accountant
from dpigu.accountants.budgets.file import BudgetFile
from dpigu.accountants.budgets.filters import RenyiFilter, counts_of
from dpigu.accountants.events import flatten
from dpigu.dpcore import BudgetError, DpiguError, PoissonSampler, RunError
from dpigu.trainers import resume, train
from dpigu.trainers.calibration import epsilon_of_ledger
from dpigu.trainers.lifecycle.spending import Spending
from dpigu.trainers.runs import LedgerFile, RunFolder
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.crash.runs import RECORDS, Bystander, linear, points, settings, two_phases, watched

DELTA = 1e-5
TORN = b'{"line": 1, "kind": "charge", "mechanism": "first", "steps": 1'


class Gone(BaseException):
    """The process was killed."""


@dataclass
class Stops:
    """An observer that ends the process after some releases: by an interrupt, or for good."""

    left: int
    how: type[BaseException]

    def extra_rows(self, phase: str, context: object) -> None:
        return None

    def see(self, phase: str, release: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.how


@dataclass
class Known:
    """A run folder, and what a bystander saw it release."""

    path: Path
    rate: float
    steps: int
    seen: Bystander = field(default_factory=Bystander)
    finished: bool = False


class RunFolders(RuleBasedStateMachine):
    """Folders of small runs under one budget."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.names = itertools.count()
        self.known: list[Known] = []
        self.everything = Bystander()
        self.budget = BudgetFile.create(self.root / "budget", RenyiFilter(100.0, DELTA))

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def work(self, run: Known, start: Any, stop: int, how: type[BaseException]) -> None:
        """Let a process work on a run until its end, or until it is stopped."""
        observer, before = Stops(stop, how), len(run.seen.events)
        sampler = PoissonSampler(run.rate, RECORDS)
        with watched(run.seen, sampler), pytest.MonkeyPatch.context() as patch:
            if how is Gone:
                patch.setattr(LedgerFile, "close", lambda self: None)
                patch.setattr(Spending, "settle", lambda self, ledger: None)
            try:
                summary = start(observer).summary
            except how:
                return
            except BudgetError:
                assert len(run.seen.events) == before, "refused after a release"
                return
            finally:
                self.everything.events += run.seen.events[before:]
        run.finished = True
        assert summary["epsilon"] == epsilon_of_ledger(RunFolder(run.path).ledger()).value
        assert summary["steps"] >= len(run.seen.events)

    @rule(
        sigma=st.sampled_from([0.6, 1.0, 3.0]),
        rate=st.sampled_from([0.1, 0.5]),
        steps=st.sampled_from([3, 8, 120]),
        epsilon=st.sampled_from([None, 1e3]),
        stop=st.integers(1, 9),
        how=st.sampled_from([KeyboardInterrupt, Gone]),
    )
    def create(
        self,
        sigma: float,
        rate: float,
        steps: int,
        epsilon: float | None,
        stop: int,
        how: type[BaseException],
    ) -> None:
        """Train a new run; runs of 120 steps pay for two at a time."""
        run = Known(self.root / str(next(self.names)), rate, steps)
        chosen = settings(noise_multiplier=sigma, rate=rate, epsilon=epsilon)

        def start(observer: Stops) -> Any:
            return train(
                two_phases(steps),
                points(),
                linear(),
                chosen,
                out=run.path,
                observer=observer,
                budget=self.budget.path,
                progress=False,
            )

        self.work(run, start, stop, how)
        if run.path.exists():  # else the budget refused it
            self.known.append(run)

    def resumed(self, run: Known, observer: Stops) -> Any:
        return resume(
            run.path,
            data=points(),
            model=linear(),
            observer=observer,
            budget=self.budget.path,
            progress=False,
        )

    @precondition(lambda self: self.known)
    @rule(
        at=st.integers(0),
        stop=st.integers(1, 9),
        how=st.sampled_from([KeyboardInterrupt, Gone]),
    )
    def go_on(self, at: int, stop: int, how: type[BaseException]) -> None:
        run = self.known[at % len(self.known)]
        self.work(run, lambda observer: self.resumed(run, observer), stop, how)

    @precondition(lambda self: self.known)
    @rule(at=st.integers(0))
    def copy(self, at: int) -> None:
        run = self.known[at % len(self.known)]
        twin = Known(self.root / str(next(self.names)), run.rate, run.steps)
        twin.seen.events = list(run.seen.events)
        twin.finished = run.finished
        shutil.copytree(run.path, twin.path)
        self.known.append(twin)

    @precondition(lambda self: self.known)
    @rule(at=st.integers(0), byte=st.integers(1, 60))
    def tear(self, at: int, byte: int) -> None:
        """A crash leaves half a line at the ledger's end."""
        path = self.known[at % len(self.known)].path / "public/ledger.jsonl"
        if path.read_bytes().endswith(b"\n"):
            with path.open("ab") as ledger:
                ledger.write(
                    b'{"line": 1, "kind": "charge", "mechanism": "first", "steps": 1'[:byte]
                )

    @precondition(lambda self: self.known)
    @rule(
        at=st.integers(0),
        edit=st.sampled_from(["noise", "shorter", "middle", "checkpoint", "rate"]),
    )
    def edit(self, at: int, edit: str) -> None:
        """An edited folder is refused in one line, releases nothing, and is put back."""
        run = self.known[at % len(self.known)]
        public, before = run.path / "public", len(run.seen.events)
        name = {"noise": "config.toml", "rate": "config.toml", "checkpoint": "checkpoint"}
        path = public / name.get(edit, "ledger.jsonl")
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        path.write_bytes(
            {
                "noise": whole.replace(b"noise_multiplier = ", b"noise_multiplier = 1"),
                "rate": whole.replace(b"rate = 0.", b"rate = 0.0"),
                "shorter": lines[0],
                "middle": b"".join(lines[:1] + lines[2:]),
                "checkpoint": whole[:-1],
            }[edit]
        )
        complete = [line for line in lines if line.endswith(b"\n")]
        if len(complete) > 2 or edit in name:
            with pytest.raises(RunError) as caught, watched(run.seen, None):
                self.resumed(run, Stops(10**6, Gone))
            assert "\n" not in str(caught.value)
        assert len(run.seen.events) == before
        path.write_bytes(whole)

    @precondition(lambda self: self.known)
    @rule(at=st.integers(0))
    def two_at_once(self, at: int) -> None:
        """While one process holds a folder, another is refused."""
        run = self.known[at % len(self.known)]
        held = RunFolder.locked(run.path)
        with pytest.raises(RunError, match="another process"):
            self.resumed(run, Stops(1, Gone))
        held.release()

    @invariant()
    def no_ledger_states_too_little(self) -> None:
        for run in self.known:
            ledger = RunFolder(run.path).ledger()
            stated = epsilon_of_ledger(ledger).value
            seen = get_accountant("rdp").epsilon(run.seen.event, DELTA).value
            assert stated is not None and seen is not None
            assert stated >= seen * (1 - 1e-9), (stated, seen, ledger.charged)
            with suppress(DpiguError):
                assert RunFolder(run.path).summary()["epsilon"] <= stated * (1 + 1e-9)

    @invariant()
    def the_budget_is_charged_every_release(self) -> None:
        """Of every mechanism at least as many as ran, in the originals and in the copies."""
        charged = counts_of(self.budget.read().charged)
        ran = counts_of(flatten(self.everything.event))
        assert all(charged[mechanism] >= count for mechanism, count in ran.items())


def test_no_order_of_deeds_makes_a_ledger_state_too_little() -> None:
    deep = hypothesis_settings().max_examples > 100
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        RunFolders,
        settings=hypothesis_settings(
            max_examples=200 if deep else 5,
            stateful_step_count=12,
            phases=[Phase.generate],
            deadline=None,
        ),
    )
