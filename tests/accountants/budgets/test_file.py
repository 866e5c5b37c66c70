"""A budget file is never overspent: whatever processes, copies, crashes and damage do to it."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

import pytest
from dp_accounting import NonPrivateDpEvent
from dpigu.accountants.budgets.file import BudgetFile, Session
from dpigu.accountants.budgets.filters import DeclaredReleases, RenyiFilter
from dpigu.accountants.budgets.state import BudgetState, SessionEntry
from dpigu.accountants.events import Term, flatten
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import BudgetError
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.accountants.cases import steps

RATE, SIGMA, STEPS = 0.1, 2.0, 10
RUN = steps(RATE, SIGMA, STEPS)


def room_for(runs: float) -> RenyiFilter:
    """A filter at a fixed order that has room for so many runs."""
    filter = RenyiFilter(1.0, 1e-5, order=16.0)
    epsilon = 1.0
    while RenyiFilter(epsilon, 1e-5, order=16.0).share(flatten(RUN)) > 1 / runs:
        epsilon += 0.01
        filter = RenyiFilter(epsilon, 1e-5, order=16.0)
    return filter


@pytest.fixture
def budget(tmp_path: Path) -> BudgetFile:
    """With room for two runs, and not for three."""
    return BudgetFile.create(tmp_path / "budget.json", room_for(2.5))


def test_runs_are_refused_before_they_overspend(budget: BudgetFile) -> None:
    budget.open_session("a", RUN)
    budget.open_session("b", RUN)
    before = budget.path.read_bytes()
    with pytest.raises(BudgetError, match=r"got 0\.3.* of the budget, expected at most 0\.2"):
        budget.open_session("c", RUN)
    assert budget.path.read_bytes() == before


def test_what_is_closed_unreleased_comes_back(budget: BudgetFile) -> None:
    budget.open_session("a", RUN).close(steps(RATE, SIGMA, 1))
    assert budget.read().charged == (Term(RATE, SIGMA, 1),)
    budget.open_session("b", RUN).close(RUN)
    budget.open_session("c", RUN)


def test_a_crashed_session_stays_charged_whole_until_its_run_goes_on(budget: BudgetFile) -> None:
    budget.open_session("a", RUN).prepay(steps(RATE, SIGMA, 4))
    assert budget.read().charged == (Term(RATE, SIGMA, 10),)
    budget.open_session("a", steps(RATE, SIGMA, 6))
    assert budget.read().charged == (Term(RATE, SIGMA, 4 + 6),)


def test_a_copy_that_goes_on_stops_the_original_and_pays_for_itself(budget: BudgetFile) -> None:
    original = budget.open_session("a", RUN)
    original.prepay(steps(RATE, SIGMA, 7))
    copy = budget.open_session("a", steps(RATE, SIGMA, 8))  # copied after step 2
    with pytest.raises(BudgetError, match="another process has gone on with this run"):
        original.prepay(steps(RATE, SIGMA, 8))
    with pytest.raises(BudgetError, match="another process"):
        original.close(steps(RATE, SIGMA, 7))
    copy.close(steps(RATE, SIGMA, 8))
    assert budget.read().charged == (Term(RATE, SIGMA, 7 + 8),)


def test_a_session_never_releases_more_than_it_reserved(budget: BudgetFile) -> None:
    session = budget.open_session("a", RUN)
    with pytest.raises(BudgetError, match="more than it reserved"):
        session.prepay(steps(RATE, SIGMA, STEPS + 1))
    with pytest.raises(BudgetError, match="more than it reserved"):
        session.prepay(steps(RATE, 1.0, 1))


def test_the_first_run_fixes_the_order(tmp_path: Path) -> None:
    budget = BudgetFile.create(tmp_path / "budget.json", RenyiFilter(10.0, 1e-5))
    assert budget.read().filter == RenyiFilter(10.0, 1e-5, order=None)
    budget.open_session("a", RUN).close(steps(RATE, SIGMA, 0))
    first = budget.read().filter
    budget.open_session("b", steps(1.0, 40.0, 1))
    assert budget.read().filter == first == RenyiFilter(10.0, 1e-5).prepared(flatten(RUN))


def test_a_run_without_noise_fits_no_budget(budget: BudgetFile) -> None:
    with pytest.raises(BudgetError, match="more than any budget has"):
        budget.open_session("a", NonPrivateDpEvent())


def test_the_relation_is_the_budgets(budget: BudgetFile, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="another neighbouring relation"):
        budget.open_session("a", RUN, adjacency=Adjacency.REPLACE_ONE)
    with pytest.raises(BudgetError, match="add-or-remove-one only"):
        BudgetFile.create(tmp_path / "b", RenyiFilter(1.0, 1e-5), Adjacency.REPLACE_ONE)


def test_a_declared_budget_is_read_as_it_was_written(tmp_path: Path) -> None:
    filter = DeclaredReleases.checked(10.0, 1e-5, flatten(RUN), Adjacency.REPLACE_ONE)
    budget = BudgetFile.create(tmp_path / "budget.json", filter, Adjacency.REPLACE_ONE)
    budget.open_session("a", RUN, adjacency=Adjacency.REPLACE_ONE)
    assert budget.read().filter == filter
    with pytest.raises(BudgetError, match="Train one of the declared runs"):
        budget.open_session("b", steps(RATE, SIGMA, 1), adjacency=Adjacency.REPLACE_ONE)


def test_a_budget_is_never_replaced(budget: BudgetFile) -> None:
    with pytest.raises(BudgetError, match="never replaced"):
        BudgetFile.create(budget.path, RenyiFilter(100.0, 1e-5))


@pytest.mark.parametrize("cut", [0, 1, 40, -2])
def test_a_damaged_file_is_one_clear_line(budget: BudgetFile, cut: int) -> None:
    budget.open_session("a", RUN)
    budget.path.write_text(budget.path.read_text()[:cut])
    with pytest.raises(BudgetError, match="nothing can be charged to it") as refused:
        budget.open_session("b", RUN)
    assert "\n" not in str(refused.value)


def test_an_edited_file_is_refused(budget: BudgetFile) -> None:
    table = json.loads(budget.path.read_text())
    budget.path.write_text(json.dumps({**table, "epsilon": 50.0}))
    with pytest.raises(BudgetError, match="digest"):
        budget.read()
    budget.path.write_text(json.dumps({**table, "format": 2}))
    with pytest.raises(BudgetError, match="another format version"):
        budget.read()


def test_a_missing_file_and_a_missing_folder_are_clear(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="dpigu budget create"):
        BudgetFile(tmp_path / "none.json").read()
    with pytest.raises(BudgetError, match="cannot be written"):
        BudgetFile(tmp_path / "no" / "folder.json").open_session("a", RUN)


def test_a_full_disk_changes_nothing(budget: BudgetFile, monkeypatch: pytest.MonkeyPatch) -> None:
    before = budget.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BudgetError, match=r"No space left on device, so nothing was released"):
        budget.open_session("a", RUN)
    assert budget.path.read_bytes() == before


def _opens(path: Path, run: str) -> bool:
    try:
        BudgetFile(path).open_session(run, RUN)
    except BudgetError:
        return False
    return True


def test_processes_that_race_never_overspend(budget: BudgetFile) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(6) as pool:
        opened = pool.starmap(_opens, [(budget.path, f"run {i}") for i in range(12)])
    assert sum(opened) == 2
    assert budget.read().charged == (Term(RATE, SIGMA, 2 * STEPS),)


class Runs(RuleBasedStateMachine):
    """Runs start, release, crash, are copied, go on, stop: a bystander counts every release."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.budget = BudgetFile.create(Path(self.folder.name) / "b.json", room_for(1.4))
        self.released: Counter[str] = Counter()
        self.of: dict[int, tuple[str, int]] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(target=sessions, run=st.sampled_from("abc"), count=st.integers(1, STEPS))
    def start_or_go_on(self, run: str, count: int) -> Session | None:
        """From any copy of the run's folder, with any number of steps ahead."""
        try:
            session = self.budget.open_session(run, steps(RATE, SIGMA, count))
        except BudgetError:
            return None
        self.of[id(session)] = (run, 0)
        return session

    @rule(session=sessions, block=st.integers(1, 8))
    def release_a_block(self, session: Session | None, block: int) -> None:
        if session is None:
            return
        run, before = self.of[id(session)]
        try:
            session.prepay(steps(RATE, SIGMA, before + block))
        except BudgetError:
            return
        self.released[run] += block
        self.of[id(session)] = (run, before + block)

    @rule(session=consumes(sessions))
    def stop(self, session: Session | None) -> None:
        if session is None:
            return
        try:
            session.close(steps(RATE, SIGMA, self.of[id(session)][1]))
        except BudgetError:
            return

    @invariant()
    def charged_is_at_least_what_was_released(self) -> None:
        state = self.budget.read()
        charged = sum(term.count for term in state.charged)
        assert charged >= sum(self.released.values())
        assert state.share <= 1


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


def planted(patch: pytest.MonkeyPatch, owner: type, name: str, old: str, new: str) -> None:
    """A method with one edit of its source."""
    right = vars(owner)[name]
    function = right.fget if isinstance(right, property) else right
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1
    made: dict[str, object] = {}
    exec(
        "from __future__ import annotations\n" + source.replace(old, new),
        function.__globals__,
        made,
    )
    patch.setattr(owner, name, made[name])


@pytest.mark.parametrize(
    ("owner", "name", "old", "new"),
    [
        (SessionEntry, "charged", "self.reserved if self.open else self.ahead", "self.ahead"),
        (
            BudgetState,
            "closed",
            "replace(entry, open=False)",
            "replace(entry, open=False, ahead=())",
        ),
        (BudgetFile, "change", "entry is None or not entry.open", "entry is None"),
        (BudgetFile, "change", "ahead=ahead, open=not close", "ahead=(), open=not close"),
        (BudgetFile, "_with", "not after.share <= 1", "not state.share <= 1"),
    ],
    ids=["nothing is reserved", "a crash is forgotten", "no fence", "no writing ahead", "too late"],
)
def test_a_bystander_sees(
    owner: type, name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, owner, name, old, new)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the machine is slow enough without
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Runs,
            settings=settings(
                max_examples=150,
                stateful_step_count=15,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                derandomize=True,
                report_multiple_bugs=False,
            ),
        )
