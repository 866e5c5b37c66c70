"""A run by person from its beginning to its audit: folder, resumption, budget, canaries, ε."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dpigu.accountants import group_epsilon
from dpigu.accountants.base import rounded_up
from dpigu.accountants.budgets.file import BudgetFile
from dpigu.accountants.budgets.filters import RenyiFilter
from dpigu.audits import GradientCanaries, audit_model, plan_canaries
from dpigu.dpcore import BudgetError, DataError, RunError, Unit
from dpigu.mechanisms import dpsgd
from dpigu.trainers import Data, Session, data_from, train
from dpigu.trainers.data.units import UnitIds
from dpigu.trainers.runs import RunFolder

from tests.support.dpigu_command import dpigu, dpigu_json, one_line
from tests.support.laws.data import linear, points, settings_of

PERSONS, EACH, STEPS = 40, 3, 6
OWNERS = np.arange(PERSONS * EACH) % PERSONS


def people(declared: int = PERSONS, **changed: Any) -> Data:
    """Two classes of points, three of each person's."""
    data = points()
    units = {"units": OWNERS, "records_per_unit": 2, **changed}
    return data_from(
        train=(data.train_x, data.train_y),
        test=(data.test_x, data.test_y),
        records=declared,
        classes=2,
        name="people",
        **units,
    )


SETTINGS = replace(settings_of(), expected_batch=10.0, delta=1e-3)


def begun(out: Path, data: Data, stop_at: int, **options: Any) -> Path:
    """A run that an exception ends after so many steps."""
    with (
        pytest.raises(KeyError),
        Session(dpsgd(STEPS), data, linear(), SETTINGS, out=out, **options) as session,
    ):
        for step in session:
            step.apply()
            if step.number == stop_at:
                raise KeyError(step.number)
    return out


def test_a_run_by_person_goes_on_as_that_and_as_nothing_else(tmp_path: Path) -> None:
    out = begun(tmp_path / "run", people(), stop_at=4)
    by_record = data_from(
        train=(people().train_x, people().train_y),
        test=(people().test_x, people().test_y),
        records=PERSONS,
        classes=2,
    )
    other = replace(people(), units=UnitIds(np.roll(OWNERS, 1)))
    for given, says in (
        (by_record, "not the records"),
        (other, "not the records"),
        (people(records_per_unit=3), "another unit of privacy"),
        (people(unit_rows="sum"), "another unit of privacy"),
    ):
        with pytest.raises(RunError, match=says):
            Session.resume(out, data=given, model=linear())
    with Session.resume(out, data=people(), model=linear()) as session:
        for step in session:
            step.apply()
    told = session.summary
    assert told["steps"] == STEPS + told["repeated_steps"] and told["epsilon_is"] == "claim"
    assert told["unit"] == vars(Unit("person", 2)) and told["records"] == PERSONS
    assert "all records of one person" in (out / "public" / "STATEMENT.txt").read_text()
    assert dpigu_json("account", "ledger", out)["epsilon"] == pytest.approx(told["epsilon"])


def test_a_budget_is_of_persons_or_of_records(tmp_path: Path) -> None:
    """It is charged by the ledger of the units' steps; a run by record finds it closed."""
    budget = BudgetFile.create(tmp_path / "people.budget", RenyiFilter(30.0, 1e-3))
    given = {"budget": budget.path, "progress": False}
    run = train(dpsgd(STEPS), people(), linear(), SETTINGS, out=tmp_path / "run", **given)
    state = budget.read()
    assert state.unit is not None and "person" in state.unit
    assert run.summary["budget"] is not None
    charged = sum(term.count for entry in state.sessions for term in entry.ahead)
    assert charged == STEPS
    before = budget.path.read_bytes()
    with pytest.raises(BudgetError, match="another unit of privacy"):
        train(dpsgd(STEPS), points(), linear(), SETTINGS, **given)
    assert budget.path.read_bytes() == before
    out = begun(tmp_path / "second", people(), stop_at=2, budget=budget.path)
    with Session.resume(out, data=people(), model=linear()) as session:
        for step in session:
            step.apply()
    assert len(budget.read().sessions) == 3


@pytest.mark.parametrize("kind", ["mislabelled", "gradient"])
def test_canaries_are_persons_of_their_own_through_resumption_and_audit(
    kind: str, tmp_path: Path
) -> None:
    """A unit each, in or out by its coin; the rest of the base record's person stays."""
    data = people(declared=PERSONS + 6)
    plan = plan_canaries(data, 6, kind)
    trains, heads = plan.apply(data), sum(plan.coins)
    if kind == "mislabelled":
        assert len(trains.protected) == PERSONS + heads
        owners = trains.units
        assert owners is not None and np.bincount(owners.train_N)[-heads:].tolist() == [1] * heads
    out = begun(tmp_path / "run", trains, 2, **watched(plan, kind))
    watcher = GradientCanaries(plan, dpsgd(STEPS)) if kind == "gradient" else None
    if watcher is not None:
        watcher.begin(RunFolder.existing(out))
    with Session.resume(out, data=trains, model=linear(), observer=watcher) as session:
        for step in session:
            step.apply()
    assert f"Canaries: 6 of the kind {kind}" in (out / "public" / "STATEMENT.txt").read_text()
    report = audit_model(out, data, model=linear()).report
    assert report.verdict.name == "NOT_CONTRADICTED", report


def watched(plan: Any, kind: str) -> dict[str, Any]:
    if kind != "gradient":
        return {"before_training": plan.save}
    observer = GradientCanaries(plan, dpsgd(STEPS))

    def begin(folder: RunFolder) -> None:
        plan.save(folder)
        observer.begin(folder)

    return {"before_training": begin, "observer": observer}


def test_canaries_want_room_beside_the_declared_persons_whatever_their_coins() -> None:
    """Where a base record's person has others, a canary is one unit more."""
    with pytest.raises(DataError, match="has no room for them") as refused:
        plan_canaries(people(declared=PERSONS + 5), 6)
    assert "\n" not in str(refused.value) and str(PERSONS) not in str(refused.value)
    plan_canaries(people(declared=PERSONS + 6), 6)
    plan_canaries(people(), 6, "gradient")


def test_the_command_that_bounds_a_group_is_the_function(tmp_path: Path) -> None:
    """For a mechanism, and for what the ledger of a run by record paid for."""
    mechanism = ("--rate", 0.1, "--steps", 20, "--noise-multiplier", 2)
    told = dpigu_json("account", "group", "--per-unit", 3, *mechanism, "--delta", 1e-5)
    event = SelfComposedDpEvent(PoissonSampledDpEvent(0.1, GaussianDpEvent(2.0)), 20)
    assert told["epsilon"] == group_epsilon(event, 3, 1e-5).value
    out = tmp_path / "run"
    train(dpsgd(STEPS), points(), linear(), SETTINGS, out=out, progress=False)
    four = dpigu_json("account", "group", out, "--per-unit", 4)
    ledger = RunFolder.existing(out).ledger()
    assert four["delta"] == SETTINGS.delta and four["records_per_unit"] == 4
    assert four["epsilon"] == group_epsilon(ledger.event, 4, SETTINGS.delta).value
    shown = dpigu("account", "group", "--per-unit", 3, *mechanism, "--delta", 1e-5)
    assert shown.exit_code == 0 and f"ε = {rounded_up(told['epsilon'])}" in shown.stdout


def test_the_command_refuses_in_one_line_what_it_has_no_bound_for(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(dpsgd(1), people(), linear(), SETTINGS, out=out, progress=False)
    for given, says in (
        ((out,), "its ε is the unit's already"),
        ((out, "--steps", 3), "The run says what '--steps' would"),
        (("--rate", 0.1, "--steps", 3, "--noise-multiplier", 1), "--delta"),
        ((tmp_path / "nothing",), "nothing"),
    ):
        assert says in one_line(dpigu("account", "group", *given, "--per-unit", 2))
