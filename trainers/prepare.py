"""What a run is made of, checked and calibrated before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from dp_accounting import DpEvent
from dpigu.accountants import Epsilon, calibrate_noise_multiplier, get_accountant, max_steps_within
from dpigu.dpcore import (
    BudgetError,
    ConfigurationError,
    ModelError,
    Pipeline,
    Plan,
    PoissonSampler,
    Space,
)
from dpigu.dpcore.stages import name_of, public_records_of
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.engines.materialising import check_every_parameter_gets_a_row, trainable
from dpigu.trainers.engines.records import Loss
from dpigu.trainers.models.registry import refuse_mixing_modules
from dpigu.trainers.settings import Settings
from torch import nn


@dataclass(frozen=True)
class PreparedRun:
    """A plan with its noise, the sampler, the data and the model on its device."""

    plan: Plan
    sampler: PoissonSampler
    settings: Settings
    data: Data
    model: nn.Module
    loss: Loss
    device: torch.device
    space: Space
    labels: Mapping[str, str]
    public: Data | None = None

    @property
    def phases(self) -> list[str]:
        """The names of the phases."""
        return [phase.name for phase in self.plan.phases]

    @property
    def claims(self) -> bool:
        """Whether the run may claim privacy: noise is drawn, and nothing private is shown."""
        return self.plan.private and not self.settings.diagnostics

    def epsilon(self, charged: Sequence[int]) -> Epsilon:
        """ε of so many steps of each phase, by the run's accountant."""
        event = self.plan.event(self.sampler, tuple(charged))
        accountant = get_accountant(self.settings.accountant)
        return accountant.epsilon(event, self.settings.delta, self.plan.adjacency)

    def affordable(self, charged: Sequence[int], ahead: Sequence[int]) -> int:
        """How many of the steps ahead the target ε pays for, on top of those charged."""
        if self.settings.epsilon is None or not self.plan.private:
            return sum(ahead)

        def event(steps: int) -> DpEvent:
            counts = []
            for before, phase_ahead in zip(charged, ahead, strict=True):
                counts.append(before + min(steps, phase_ahead))
                steps -= min(steps, phase_ahead)
            return self.plan.event(self.sampler, tuple(counts))

        return max_steps_within(
            event,
            sum(ahead),
            self.settings.epsilon,
            self.settings.delta,
            self.settings.accountant,
            self.plan.adjacency,
        )


def prepare(
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    loss: Loss,
    labels: Mapping[str, str],
    public: Data | None = None,
    *,
    calibrated: bool = False,
) -> PreparedRun:
    """Check everything and calibrate the noise.

    Every noise multiplier of the plan is scaled by one factor: `settings.noise_multiplier`, or
    the smallest with which the whole plan stays within (ε, δ). `calibrated` says that the plan
    has its noise already, as when a run is resumed.
    """
    sampler = settings.sampler(data.spec.records)
    device = settings.torch_device()
    refuse_mixing_modules(model)
    model = model.to(device)
    check_every_parameter_gets_a_row(model, loss, data.spec.shape, device)
    space = Space.of(trainable(model))
    for phase in plan.phases:
        for pipeline in phase.pipelines:
            pipeline.check(pipeline.row_space(space, data.spec.shape))
            _check_public(pipeline, data, public)
            _check_buffers(pipeline, data, model)
    if plan.private and not calibrated:
        plan = plan.scaled_noise(noise_factor(plan, sampler, settings))
    if public is not None:
        _check_needed(plan, public)
    prepared = PreparedRun(
        plan, sampler, settings, data, model, loss, device, space, labels, public
    )
    once = [int(phase is plan.phases[0]) for phase in plan.phases]
    if settings.noise_multiplier is not None and not prepared.affordable([0] * len(once), once):
        raise BudgetError(
            "the budget does not pay for a single step",
            where="settings.epsilon",
            got=prepared.epsilon(once).value,
            expected=f"at most {settings.epsilon}",
            remedy="Raise the target ε or the noise multiplier.",
        )
    return prepared


def _check_needed(plan: Plan, public: Data) -> None:
    """An error if public data was given and no stage of the plan would look at it."""
    placed = (p for phase in plan.phases for line in phase.pipelines for p in line.placed)
    if not any(public_records_of(p.stage) for p in placed):
        raise ConfigurationError(
            "no stage of the plan learns from public records",
            where=public.spec.name,
            remedy="Leave out `public`, or take a plan such as gep-public.",
        )


def _check_public(pipeline: Pipeline, data: Data, public: Data | None) -> None:
    """An error if a stage wants public records and there are none, or none that fit."""
    wanting = [p.name for p in pipeline.placed if public_records_of(p.stage)]
    if not wanting:
        return
    if public is None:
        raise ConfigurationError(
            "a stage learns from public records, and there is no public data",
            where=wanting[0],
            remedy="Give `public`: records that need no protection.",
        )
    x, own = public.train_x, data.train_x
    if x.data_ptr() == own.data_ptr() or (x.shape == own.shape and bool(torch.equal(x, own))):
        raise ConfigurationError(
            "the public records are the private ones",
            where=public.spec.name,
            remedy="Give other records: what learns from public ones is not protected.",
        )
    here, there = data.spec, public.spec
    if there.shape != here.shape or there.classes > here.classes:
        raise ConfigurationError(
            "the public data does not fit the private data",
            where=there.name,
            got=f"{there.shape}, {there.classes} classes",
            expected=f"{here.shape}, at most {here.classes} classes",
        )


def _check_buffers(pipeline: Pipeline, data: Data, model: nn.Module) -> None:
    """An error if a statistic sets buffers that the model lacks, or has in another shape."""
    if pipeline.statistic is None:
        return
    there = {name: tuple(buffer.shape) for name, buffer in model.named_buffers()}
    for name, shape in pipeline.statistic.fits(data.spec.shape).items():
        if there.get(name) != shape:
            known = [f"{here} {size}" for here, size in there.items()]
            raise ModelError(
                "the model has no such buffer for a statistic to set",
                where=name_of(pipeline.statistic),
                got=", ".join(known) or "a model without buffers",
                expected=f"{name} {shape}",
                remedy="Take a model that has it, such as the preset's own, or change the "
                "statistic's options.",
            )


def noise_factor(plan: Plan, sampler: PoissonSampler, settings: Settings) -> float:
    """The factor on a plan's noise multipliers: the one given, or the smallest within (ε, δ)."""
    if settings.noise_multiplier is not None:
        return settings.noise_multiplier
    if settings.epsilon is None:
        raise ConfigurationError(
            "a private plan needs a target ε or a noise multiplier",
            where="settings",
            remedy="Give epsilon and delta, or noise_multiplier.",
        )
    return calibrate_noise_multiplier(
        lambda z: plan.scaled_noise(z).event(sampler),
        settings.epsilon,
        settings.delta,
        settings.accountant,
        plan.adjacency,
    )
