"""The loop charges what runs, before it runs; resumes with fresh noise; keeps folders apart."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.accountants import get_accountant
from dpigu.dpcore import (
    BudgetError,
    DpiguError,
    Kernel,
    ModelError,
    Phase,
    Pipeline,
    Plan,
    Release,
    ReproducibleNoise,
    RunError,
    StepContext,
)
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers import Data, Settings, Tensors, load_run, resume, train
from dpigu.trainers.runs import RunFolder
from torch import Tensor, nn


class StopAt:
    """An observer that interrupts the run after some releases."""

    def __init__(self, releases: int) -> None:
        self.left = releases

    def extra_rows(self, phase: str, context: StepContext) -> Tensor | None:
        return None

    def see(self, phase: str, release: Release) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class Overflows(nn.Module):
    """The identity, but for numbers beyond 10²⁹: those become infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 1e29, x * 1e29, x)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.pictures
def test_a_run_learns_and_says_what_it_spent(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    run = train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    event = plan.event(settings.sampler(data.spec.records))
    want = get_accountant("rdp").epsilon(event, settings.delta).value
    assert run.summary["epsilon"] == pytest.approx(want)
    assert run.summary["private"] is True
    assert run.summary["test_accuracy"] > 0.9
    public = tmp_path / "run" / "public"
    assert json.loads((public / "summary.json").read_text()) == dict(run.summary)
    assert f"ε = {math.ceil(want * 1000) / 1000:.4g} at" in (public / "STATEMENT.txt").read_text()
    assert (public / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.numerical
def test_a_loaded_run_predicts_as_the_trained_model_did(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    run = train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    loaded = load_run(tmp_path / "run", model=nn.Linear(2, 2))
    assert torch.equal(loaded.model(data.test_x), run.model(data.test_x))
    with pytest.raises(RunError, match="no name to build it by"):
        load_run(tmp_path / "run")


def test_the_ledger_is_written_before_the_release(
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*_: object) -> Any:
        raise OSError("power cut")

    monkeypatch.setattr(Kernel, "release", crash)
    with pytest.raises(OSError, match="power cut"):
        train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    assert RunFolder(tmp_path / "run").ledger().charged == (1,)


def test_a_resumed_run_charges_its_repeated_steps_again(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(plan, data, model, settings, out=out, observer=StopAt(8), progress=False)
    run = resume(out, data=data, model=nn.Linear(2, 2), progress=False)
    # A checkpoint stands after every step of so short a run; the eighth ran twice.
    assert run.summary["steps"] == 12 + 1
    assert run.summary["repeated_steps"] == 1
    event = plan.event(settings.sampler(data.spec.records), (13,))
    assert run.summary["epsilon"] == pytest.approx(
        get_accountant("rdp").epsilon(event, settings.delta).value
    )


def test_a_resumed_run_stops_where_the_budget_ends(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    calibrated = dataclasses.replace(settings, noise_multiplier=None, epsilon=5.0)
    with pytest.raises(KeyboardInterrupt):
        train(plan, data, model, calibrated, out=out, observer=StopAt(8), progress=False)
    run = resume(out, data=data, model=nn.Linear(2, 2), progress=False)
    assert run.summary["steps"] == 12
    assert run.summary["epsilon"] <= 5.0
    metrics = RunFolder(out).metrics()
    assert metrics[-1]["step"] == 11  # one step short of the plan


def test_noise_after_a_resume_is_fresh(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    import shutil

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(plan, data, model, settings, out=out, observer=StopAt(7), progress=False)
    shutil.copytree(out, tmp_path / "twin")
    ends = [
        flat(resume(folder, data=data, model=nn.Linear(2, 2), progress=False).model)
        for folder in (out, tmp_path / "twin")
    ]
    assert not torch.equal(ends[0], ends[1])


def test_a_step_that_the_budget_does_not_pay_for_is_not_taken(
    plan: Plan, data: Data, model: nn.Module, settings: Settings
) -> None:
    poor = dataclasses.replace(settings, epsilon=0.01)
    before = flat(model).clone()
    with pytest.raises(BudgetError, match="does not pay for a single step"):
        train(plan, data, model, poor, progress=False)
    assert torch.equal(flat(model), before)


def test_a_budget_below_the_plan_ends_training_early(
    plan: Plan, data: Data, model: nn.Module, settings: Settings
) -> None:
    sampler = settings.sampler(data.spec.records)
    target = get_accountant("rdp").epsilon(plan.event(sampler, (5,)), settings.delta).value
    assert target is not None
    tight = dataclasses.replace(settings, epsilon=target * 1.0001)
    run = train(plan, data, model, tight, progress=False)
    assert run.summary["steps"] == 5
    assert run.summary["epsilon"] <= tight.epsilon


@pytest.mark.numerical
@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_microbatch_never_changes_the_result(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, size: int
) -> None:
    full = dataclasses.replace(settings, expected_batch=None, rate=1.0)
    plan = Plan((dataclasses.replace(plan.phases[0], steps=4),))
    runs = []
    for physical in (120, size):
        chosen = dataclasses.replace(full, physical_batch=physical)
        runs.append(
            train(
                plan, data, copy.deepcopy(model), chosen, noise=ReproducibleNoise(3), progress=False
            )
        )
    torch.testing.assert_close(flat(runs[0].model), flat(runs[1].model), rtol=1e-5, atol=1e-6)
    assert runs[0].summary["private"] is False
    assert runs[0].summary["epsilon"] is None
    assert "seed" in runs[0].summary["why_not_private"]


@pytest.mark.numerical
def test_a_record_with_a_row_that_is_not_finite_moves_nothing(
    plan: Plan, data: Data, model: nn.Module, settings: Settings
) -> None:
    full = dataclasses.replace(settings, expected_batch=None, rate=1.0)
    spec = dataclasses.replace(data.spec, records=data.spec.records + 1)
    data = dataclasses.replace(data, spec=spec)
    x = torch.cat([data.train_x, torch.full((1, 2), 1e30)])
    y = torch.cat([data.train_y, torch.zeros(1, dtype=torch.int64)])
    poisoned = dataclasses.replace(data, train=Tensors(x, y))
    ends = []
    for d in (data, poisoned):
        net = nn.Sequential(Overflows(), copy.deepcopy(model))
        noise = ReproducibleNoise(1)
        ends.append(flat(train(plan, d, net, full, noise=noise, progress=False).model))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)


def test_an_empty_batch_is_an_ordinary_step(
    plan: Plan, data: Data, model: nn.Module, settings: Settings
) -> None:
    rare = dataclasses.replace(settings, expected_batch=None, rate=1e-9)
    before = flat(model).clone()
    run = train(plan, data, model, rare, progress=False)
    assert run.summary["steps"] == 12
    assert not torch.equal(flat(run.model), before)  # the noise was drawn


def test_diagnostics_mark_the_run_as_not_private(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    open_run = dataclasses.replace(settings, diagnostics=True)
    run = train(plan, data, model, open_run, out=tmp_path / "run", progress=False)
    assert run.summary["private"] is False
    assert run.summary["epsilon"] is None
    assert "no claim" in (tmp_path / "run" / "public" / "STATEMENT.txt").read_text()
    private = (tmp_path / "run" / "private" / "diagnostics.jsonl").read_text()
    assert "train_accuracy" in private
    public = "".join(p.read_text() for p in (tmp_path / "run" / "public").glob("*.json*"))
    assert "train_accuracy" not in public


def test_times_stay_out_of_the_public_folder(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    assert "seconds" in (tmp_path / "run" / "private" / "times.jsonl").read_text()
    for path in (tmp_path / "run" / "public").glob("*.*"):
        if path.suffix in (".json", ".jsonl", ".toml", ".txt"):
            text = path.read_text()
            assert "seconds" not in text, path


def _batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("broken", "error", "words"),
    [
        ({"model": _batch_norm}, ModelError, "GroupNorm"),
        ({"model": lambda: nn.Linear(3, 2)}, ModelError, "cannot take one record"),
        ({"settings": {"epsilon": None, "noise_multiplier": None}}, DpiguError, "target ε"),
        ({"settings": {"rate": 0.1}}, DpiguError, "not both"),
        ({"settings": {"expected_batch": 1000.0}}, DpiguError, "declared number"),
        ({"settings": {"device": "nowhere"}}, DpiguError, "device"),
    ],
)
def test_a_mistake_is_one_error_and_leaves_no_folder(
    broken: dict[str, Any],
    error: type[DpiguError],
    words: str,
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    tmp_path: Path,
) -> None:
    make: Callable[[], nn.Module] = broken.get("model", lambda: model)
    chosen = dataclasses.replace(settings, **broken.get("settings", {}))
    with pytest.raises(error, match=words) as caught:
        train(plan, data, make(), chosen, out=tmp_path / "run", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_exists_is_left_alone(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "public" / "summary.json").read_bytes()
    with pytest.raises(RunError, match="`resume` the run that is there"):
        train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "public" / "summary.json").read_bytes() == before


def test_phases_hand_on_only_what_the_plan_says(
    data: Data, model: nn.Module, settings: Settings
) -> None:
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian())
    start = flat(model).clone()
    first: dict[str, Tensor] = {}

    class Watch:
        def extra_rows(self, phase: str, context: StepContext) -> Tensor | None:
            if context.clock.step == 0:
                first[phase] = flat(model).clone()
            return None

        def see(self, phase: str, release: Release) -> None:
            pass

    fresh = Plan(
        (Phase("a", pipeline, 3), Phase("b", pipeline, 3, inherits=()), Phase("c", pipeline, 3))
    )
    train(fresh, data, model, settings, observer=Watch(), progress=False)
    assert torch.equal(first["b"], start)
    assert not torch.equal(first["c"], start)
