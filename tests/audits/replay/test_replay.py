"""Replays: honest runs publish nothing but what follows from releases; planted leaks are seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.audits.replay import audit_replay, made_up_training
from dpigu.audits.replay.coupling import coupled
from dpigu.audits.verdict import Verdict
from dpigu.dpcore import Kernel, Phase, Pipeline, Plan, Released, Space, kernel
from dpigu.dpcore.randomness import system_words
from dpigu.mechanisms import PRESETS, Flat, Gaussian
from dpigu.trainers import Data, Run, Session, Tensors, recipe_for, train
from dpigu.trainers.phases.phase import RunningPhase
from torch import Tensor
from torch.nn import functional as F

import dpigu
from tests.support.laws.data import linear, points, settings_of

PRIVATE = [name for name in PRESETS if name != "non-private"]
RECORDS = 10
SECRETS: list[Tensor] = []
"""What the planted plugin reads past the kernel."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A post that adds a thousandth of what somebody left where it can reach it."""

    def output_space(self, space: Space) -> Space:
        return space

    def apply(self, state: object, released: Released, reads: object) -> Released:
        return released.derive(released.value + 1e-3 * SECRETS[-1], released.variance)


def few() -> Data:
    """Ten points, the last of them far out."""
    data = points()
    x = data.train_x[:RECORDS].clone()
    x[-1] *= 50
    spec = replace(data.spec, records=RECORDS)
    return replace(data, spec=spec, train=Tensors(x, data.train_y[:RECORDS]))


def trained(data: Data, out: Path, pipeline: Pipeline | None = None) -> Run:
    pipeline = pipeline or Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian())
    plan = Plan((Phase("main", pipeline, 3),))
    settings = replace(settings_of(), expected_batch=0.85 * RECORDS, evaluations=2)
    return train(plan, data, linear(), settings, out=out, progress=False)


def in_its_own_loop(data: Data, out: Path) -> None:
    plan = Plan((Phase("main", Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian()), 3),))
    settings = replace(settings_of(), expected_batch=0.85 * RECORDS, evaluations=2)
    with Session(plan, data, linear(), settings, out=out) as session:
        for step in session:
            step.apply()


@pytest.mark.parametrize("name", PRIVATE)
def test_a_preset_publishes_only_what_follows_from_its_releases(name: str) -> None:
    audit = audit_replay(*made_up_training(recipe_for(name, "digits", steps=6)))
    assert audit.verdict in (Verdict.NOT_CONTRADICTED, Verdict.INVALID_AUDIT), audit.leaks
    assert audit.furthest <= 1


def test_a_loop_of_ones_own_is_replayed() -> None:
    audit = audit_replay(in_its_own_loop, few())
    assert audit.verdict is Verdict.NOT_CONTRADICTED, audit.leaks
    assert audit.releases == 3 and audit.touched > 0


def test_coupled_draws_are_equal_and_the_next_ones_are_not() -> None:
    drawn = []
    for _ in range(2):
        with coupled(b"key"):
            drawn.append((system_words(3).tolist(), torch.rand(2).tolist()))
    assert drawn[0] == drawn[1]
    assert system_words(3).tolist() != system_words(3).tolist()


def raw_gradients(parameters: Mapping[str, Tensor], data: Data) -> list[Tensor]:
    """The mean gradient of the records, unclipped and without noise."""
    weights = [p.detach().clone().requires_grad_() for p in parameters.values()]
    loss = F.cross_entropy(F.linear(data.train_x, *weights), data.train_y)
    return list(torch.autograd.grad(loss, weights))


def momentum_from_the_raw_gradient(patch: pytest.MonkeyPatch) -> None:
    update = RunningPhase.update

    def leaking(self: Any, optimizer: Any, parameters: Any, *rest: Any) -> bool:
        kept = update(self, optimizer, parameters, *rest)
        raw = raw_gradients(parameters, self._prepared.data)
        for p, g in zip(parameters.values(), raw, strict=True):
            optimizer.state[p]["momentum_buffer"].add_(1e-3 * g)
        return kept

    patch.setattr(RunningPhase, "update", leaking)


def learning_rate_from_the_raw_norm(patch: pytest.MonkeyPatch) -> None:
    update = RunningPhase.update

    def leaking(self: Any, optimizer: Any, parameters: Any, *rest: Any) -> bool:
        norm = torch.cat(
            [g.flatten() for g in raw_gradients(parameters, self._prepared.data)]
        ).norm()
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + float(norm))
        return update(self, optimizer, parameters, *rest)

    patch.setattr(RunningPhase, "update", leaking)


def a_thousandth_of_the_mean_after_the_noise(patch: pytest.MonkeyPatch) -> None:
    mint = Kernel._mint

    def leaking(self: Any, guarded: Any, *rest: Any) -> Released:
        made = mint(self, guarded, *rest)
        return made.derive(made.value + 1e-3 * guarded.value / self._divisor, made.variance)

    patch.setattr(Kernel, "_mint", leaking)


def clipped_at_half_as_much_again(patch: pytest.MonkeyPatch) -> None:
    guarded = kernel.guarded_factors

    def longer(*given: Any) -> tuple[Tensor, Tensor]:
        c_BG, good_B = guarded(*given)
        return 1.5 * c_BG, good_B

    patch.setattr(kernel, "guarded_factors", longer)


def no_noise(patch: pytest.MonkeyPatch) -> None:
    mint = Kernel._mint

    def leaking(self: Any, guarded: Any, *rest: Any) -> Released:
        made = mint(self, guarded, *rest)
        return made.derive(guarded.value / self._divisor, made.variance)

    patch.setattr(Kernel, "_mint", leaking)


def the_number_of_records_in_the_summary(patch: pytest.MonkeyPatch) -> None:
    from dpigu.trainers.lifecycle import run

    summarise = run.summarise

    def leaking(prepared: Any, *rest: Any) -> dict[str, Any]:
        return {**summarise(prepared, *rest), "present": len(prepared.data.train_x)}

    patch.setattr(run, "summarise", leaking)


def training_accuracy_among_the_metrics(patch: pytest.MonkeyPatch) -> None:
    from dpigu.trainers import loop

    evaluated = loop.evaluated

    def leaking(prepared: Any, *rest: Any) -> dict[str, Any]:
        x, y = prepared.data.train_x, prepared.data.train_y
        loss = float(F.cross_entropy(prepared.model(x), y).detach())
        return {**evaluated(prepared, *rest), "training_loss": loss}

    patch.setattr(loop, "evaluated", leaking)


PLANTED: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    momentum_from_the_raw_gradient: "checkpoint",
    learning_rate_from_the_raw_norm: "checkpoint",
    a_thousandth_of_the_mean_after_the_noise: "gradient",
    no_noise: "gradient",
    clipped_at_half_as_much_again: "noised sum",
    the_number_of_records_in_the_summary: "summary",
    training_accuracy_among_the_metrics: "metrics",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_leak_is_seen(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    audit = audit_replay(trained, few())
    assert audit.verdict is Verdict.CONTRADICTED
    assert any(PLANTED[plant] in leak.what for leak in audit.leaks), audit.leaks


def test_a_plugin_that_reads_the_data_is_seen() -> None:
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), posts=(Reading(),))

    def leaking(data: Data, out: Path) -> Run:
        SECRETS.append(data.train_x.double().mean())
        plan = Plan((Phase("main", pipeline, 2),))
        settings = replace(settings_of(), expected_batch=0.85 * RECORDS)
        with Session(plan, data, linear(), settings) as session:
            for step in session:
                step.apply()
        return Run(session.model, session.summary, None)

    audit = audit_replay(leaking, few())
    assert audit.verdict is Verdict.CONTRADICTED
    assert "gradient" in audit.leaks[0].what


def test_what_differs_from_itself_supports_no_verdict() -> None:
    calls: list[int] = []

    def unsteady(data: Data, out: Path) -> Run:
        calls.append(0)
        print(len(calls))
        return trained(data, out)

    assert audit_replay(unsteady, few()).verdict is Verdict.INVALID_AUDIT


def test_a_record_in_no_batch_supports_no_verdict() -> None:
    def without(data: Data, out: Path) -> Run:
        first = slice(RECORDS - 1)
        shorter = replace(data, train=Tensors(data.train_x[first], data.train_y[first]))
        return trained(shorter, out)

    assert audit_replay(without, few()).verdict is Verdict.INVALID_AUDIT


def test_a_plan_without_noise_is_refused() -> None:
    with pytest.raises(dpigu.DpiguError, match="nothing to contradict"):
        made_up_training(recipe_for("non-private", "digits", steps=3))
