"""The training loop: charge, sample, release, step. One loop for every plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpigu.dpcore import NoiseSource, Plan, Reads, States, SystemNoise
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.engines.materialising import cross_entropy
from dpigu.trainers.engines.records import Loss
from dpigu.trainers.phase import Observer, RunningPhase
from dpigu.trainers.prepare import PreparedRun, prepare
from dpigu.trainers.progress import Progress
from dpigu.trainers.runs import checkpoint
from dpigu.trainers.runs.checkpoint import Checkpoint
from dpigu.trainers.runs.folder import RunFolder
from dpigu.trainers.runs.report import configuration, evaluated, finish, summarise
from dpigu.trainers.settings import OptimizerFactory, Settings
from torch import Tensor, nn


@dataclass(frozen=True)
class Run:
    """A finished run: the model, its summary, and where it lies (None if nowhere)."""

    model: nn.Module
    summary: Mapping[str, Any]
    folder: Path | None


def train(
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    *,
    out: Path | str | None = None,
    loss: Loss = cross_entropy,
    optimizer: OptimizerFactory | None = None,
    observer: Observer | None = None,
    noise: NoiseSource | None = None,
    labels: Mapping[str, str] | None = None,
    public: Data | None = None,
    resume: bool = False,
    before_training: Callable[[RunFolder], None] | None = None,
    progress: bool = True,
) -> Run:
    """Train a model by a plan, and charge what runs.

    Args:
        plan: its noise multipliers are scaled to the target ε of `settings`.
        data: training and held-out records with their declared constants.
        model: any module without layers that mix records; trained in place.
        settings: budget, sampling, optimizer, engine, device.
        out: the run folder to make; None keeps nothing on disk.
        loss: one loss a record, from outputs (B × …) and targets (B).
        optimizer: makes any torch optimizer, in place of the one in `settings`.
        observer: watches the releases, and may add rows (audits).
        noise: reproducible noise, for tests; it marks the run as not private.
        labels: names for the configuration and the summary: preset, data, model.
        public: records that nobody protects, for the stages that learn from some.
        resume: go on from the checkpoint in `out`, with fresh noise; steps that run again are
            charged again.
        before_training: called with the new run folder before the first record is looked at.
        progress: show a progress bar.

    Errors: `DpiguError` before anything is spent; `BudgetError` if not one step is affordable.
    """
    prepared = prepare(plan, data, model, settings, loss, labels or {}, public, calibrated=resume)
    folder = _folder(prepared, out, resume, before_training)
    noise = noise if noise is not None else SystemNoise()
    make = optimizer if optimizer is not None else settings.factory()
    with Progress(prepared.plan.steps, show=progress) as bar:
        charged, reached = _train(prepared, folder, make, observer, noise, bar)
    summary = summarise(prepared, charged, reached, noise)
    if folder is not None:
        finish(prepared, folder, summary)
    return Run(prepared.model.eval(), summary, folder.path if folder is not None else None)


def _train(
    prepared: PreparedRun,
    folder: RunFolder | None,
    make: OptimizerFactory,
    observer: Observer | None,
    noise: NoiseSource,
    bar: Progress,
) -> tuple[list[int], int]:
    """Run every phase from where the last checkpoint left off.

    Returns the steps charged in each phase, those that ran again included, and the step of the
    plan that was reached.
    """
    plan, settings = prepared.plan, prepared.settings
    x, y = prepared.data.train_x.to(prepared.device), prepared.data.train_y.to(prepared.device)
    parameters = {n: p for n, p in prepared.model.named_parameters() if p.requires_grad}
    tensors = {**parameters, **dict(prepared.model.named_buffers())}
    initial = {name: t.detach().clone() for name, t in tensors.items()}
    optimizer = make(list(parameters.values()))
    charged = folder.charged(prepared.phases) if folder is not None else [0] * len(plan.phases)
    point = Checkpoint(0, 0, initial, (), optimizer.state_dict())
    if folder is not None:
        point = checkpoint.load(folder.public / "checkpoint", point, prepared.device)
    _copy(point.weights, tensors)
    optimizer.load_state_dict(dict(point.optimizer))
    average = settings.averager(point.weights)
    left = _affordable_steps(prepared, charged, point)
    marks = _marks(plan.steps, settings.evaluations)
    earlier: Reads = {}
    past: tuple[States, ...] = point.states[: point.phase]
    for i, phase in enumerate(plan.phases):
        running = RunningPhase(prepared, phase, earlier, noise, observer)
        if i < point.phase:
            earlier = running.binding.views(past[i])
            continue
        resumed = i == point.phase and point.step > 0
        if not resumed and "weights" not in phase.inherits:
            _copy(initial, parameters)
            average.reset()
        if not resumed and "optimizer" not in phase.inherits:
            optimizer = make(list(parameters.values()))
        states = point.states[i] if resumed else running.begin(parameters)
        for step in range(point.step if resumed else 0, phase.steps):
            overall = sum(p.steps for p in plan.phases[:i]) + step
            if left == 0:
                average.settle(parameters)
                return charged, overall
            charged[i], left = charged[i] + 1, left - 1
            if folder is not None:
                folder.charge(phase.name, step)  # before the release that it pays for
            prepared.model.train()
            began = time.monotonic()
            release, states = running.step(states, step, parameters, x, y)
            settings.set_learning_rate(optimizer, overall, plan.steps)
            kept = running.update(optimizer, parameters, states, release, x, y)
            average.see(parameters, overall, plan.steps)
            bar.advance(overall + 1)
            if folder is not None:
                if phase.selective_update is not None:
                    folder.decision(overall, kept)
                seconds = round(time.monotonic() - began, 4)
                folder.note_privately("times.jsonl", {"step": overall, "seconds": seconds})
            if overall + 1 in marks or left == 0:
                with average.applied(parameters):
                    metrics = evaluated(prepared, charged, overall + 1)
                bar.show(metrics)
                if folder is not None:
                    folder.metric(metrics)
                    now = {n: t.detach() for n, t in tensors.items()} | average.state()
                    here = Checkpoint(i, step + 1, now, (*past, states), optimizer.state_dict())
                    checkpoint.save(folder.public / "checkpoint", here)
        past = (*past, states)
        earlier = running.binding.views(states)
    average.settle(parameters)
    return charged, plan.steps


def _folder(
    prepared: PreparedRun,
    out: Path | str | None,
    resume: bool,
    before_training: Callable[[RunFolder], None] | None,
) -> RunFolder | None:
    if out is None:
        return None
    if resume:
        return RunFolder.existing(Path(out))
    folder = RunFolder.create(Path(out), prepared.claims)
    folder.write_configuration(configuration(prepared))
    if before_training is not None:
        before_training(folder)
    return folder


def _affordable_steps(prepared: PreparedRun, charged: Sequence[int], point: Checkpoint) -> int:
    ahead = [phase.steps if i >= point.phase else 0 for i, phase in enumerate(prepared.plan.phases)]
    ahead[point.phase] -= point.step
    return prepared.affordable(charged, ahead)


def _copy(values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.data.copy_(values[name])


def _marks(steps: int, evaluations: int) -> set[int]:
    """The steps after which ε and held-out accuracy are taken: evenly spread, the last too."""
    count = max(1, min(evaluations, steps))
    return {round(steps * (k + 1) / count) for k in range(count)}
