"""Loggers write what was released; early stopping ends a run and leaves its claim."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from dpigu.dpcore import ConfigurationError, Plan
from dpigu.trainers import (
    CSVLogger,
    Data,
    EarlyStopping,
    Session,
    Settings,
    TensorBoardLogger,
    resume,
    train,
)
from torch import nn


class Stoppable:
    """A session as early stopping sees it."""

    stopped = False

    def stop(self) -> None:
        self.stopped = True


def stops_after(values: list[float], **options: Any) -> int | None:
    """After how many evaluations early stopping ends a run with these metrics."""
    watch, session = EarlyStopping(metric="loss", **options), Stoppable()
    for i, value in enumerate(values):
        watch.on_evaluation(session, {"step": i, "loss": value})  # type: ignore[arg-type]
        if session.stopped:
            return i + 1
    return None


@pytest.mark.parametrize(
    ("values", "options", "after"),
    [
        ([1, 2, 3, 4], {"patience": 1}, None),
        ([1, 1], {"patience": 1}, 2),
        ([1, 2, 1, 3, 1, 1], {"patience": 2}, 6),
        ([4, 3, 2, 1], {"patience": 1, "mode": "min"}, None),
        ([4, 3, 2, 1], {"patience": 2}, 3),
        ([1, 1.05, 1.1, 1.15], {"patience": 1, "least": 0.1}, 2),
    ],
)
def test_patience_counts_evaluations_without_improvement(
    values: list[float], options: dict[str, Any], after: int | None
) -> None:
    assert stops_after(values, **options) == after


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"mode": "most"}])
def test_options_without_a_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="EarlyStopping"):
        EarlyStopping(**wrong)


def test_a_run_that_stops_early_keeps_its_claim(
    plan: Plan, data: Data, model: nn.Module, settings: Settings
) -> None:
    never = EarlyStopping(patience=1, least=1.0)
    run = train(plan, data, model, settings, callbacks=[never], progress=False)
    assert run.summary["steps"] == 6 and run.summary["epsilon_is"] == "spent so far"
    assert run.summary["claimed_epsilon"] > run.summary["epsilon"]


def test_a_metric_that_is_not_there_is_named(
    plan: Plan, data: Data, model: nn.Module, settings: Settings
) -> None:
    with pytest.raises(ConfigurationError, match=r"no such metric.*expected epsilon, "):
        train(plan, data, model, settings, callbacks=[EarlyStopping(metric="f1")], progress=False)


def test_a_csv_goes_on_where_a_run_does(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    log, out = CSVLogger(tmp_path / "logs" / "run.csv"), tmp_path / "run"
    early = EarlyStopping(patience=1, least=1.0)
    train(plan, data, model, settings, out=out, callbacks=[log, early], progress=False)
    resume(out, data=data, model=nn.Linear(2, 2), callbacks=[log], progress=False)
    with (tmp_path / "logs" / "run.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6", "9", "12"]
    spent = [float(row["epsilon"]) for row in rows]
    assert spent == sorted(spent)


def test_tensorboard_is_given_curves_of_released_values(
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[tuple[str, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def flush(self) -> None:
            pass

        def close(self) -> None:
            written.append(("closed", -1))

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    with Session(plan, data, model, settings, callbacks=[TensorBoardLogger("logs")]) as session:
        for step in session:
            step.apply()
    assert [at for name, at in written if name == "released norm/main"] == list(range(1, 13))
    assert [at for name, at in written if name == "epsilon"] == [3, 6, 9, 12]
    assert [at for name, at in written if name == "test_accuracy"] == [3, 6, 9, 12]
    assert written[-1] == ("closed", -1)


def test_a_missing_tensorboard_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigurationError, match=r"not installed.*dpigu\[tensorboard\]") as caught:
        TensorBoardLogger("logs")
    assert "\n" not in str(caught.value)
