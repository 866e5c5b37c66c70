"""What a run is made of, checked and calibrated before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from dpigu.dpcore import (
    CalibratedPlan,
    ConfigurationError,
    DataError,
    ModelError,
    Phase,
    Pipeline,
    Plan,
    PoissonSampler,
    Ranks,
    Space,
    Views,
)
from dpigu.dpcore.grammar.stages import name_of, of_loss, public_records_of
from dpigu.dpcore.ranks import ALONE
from dpigu.dpcore.unit import Unit, called
from dpigu.trainers.calibration import calibrate
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.data.overlap import refuse_shared
from dpigu.trainers.data.sources import form_of
from dpigu.trainers.data.units import Split
from dpigu.trainers.distributed import is_sharded, refuse_other_sharding, replicated
from dpigu.trainers.engines import (
    Loss,
    LossOfOne,
    Traced,
    refuse_whole_rows,
    trace,
    trainable,
)
from dpigu.trainers.evaluation import try_metrics
from dpigu.trainers.models.mixing import refuse_mixing_modules
from dpigu.trainers.phases.reading import Records
from dpigu.trainers.phases.slots import Slots
from dpigu.trainers.settings import Settings
from dpigu.trainers.tasks import Metrics
from dpigu.trainers.tasks.losses import weighted
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

T = TypeVar("T")


@dataclass(frozen=True)
class PreparedRun:
    """A calibrated plan with the data and the model on its device: checked, and ready to run.

    `traced` is what made-up records showed of the model; `slots` is where this rank's records, or
    units, sit, and `records` reads them; `metrics` are measured on held-out records; `loss` is a
    record's.
    """

    plan: CalibratedPlan
    settings: Settings
    data: Data
    model: nn.Module
    loss: Loss
    device: torch.device
    space: Space
    labels: Mapping[str, Any]
    traced: Traced
    slots: Slots
    records: Records
    metrics: Metrics
    public: Data | None = None
    ranks: Ranks = ALONE

    @property
    def sampler(self) -> PoissonSampler:
        """How batches are sampled."""
        return self.plan.sampler

    def share(self, expected_batch: float) -> float:
        """What one rank expects of a batch."""
        return expected_batch / self.ranks.size

    @property
    def sharded(self) -> bool:
        """Whether every rank holds a part of each weight, so that none can call the model alone."""
        return is_sharded(self.model)

    def said(self, say: Callable[[], T]) -> T:
        """What the first rank says of the model, on every rank."""
        if not self.sharded:
            return self.ranks.agreed(say)
        here = say()  # all must take part
        return self.ranks.agreed(lambda: here)

    def pieces(self, count: int) -> int:
        """How many microbatches this rank computes that has so many: those that it lacks to the
        other ranks hold nobody, where all must call the model equally often."""
        return self.ranks.most(count) if self.sharded else count

    @property
    def row_loss(self) -> Loss:
        """The loss of one part of a row: a record's, times its weight in its unit."""
        return self.loss if self.data.spec.unit is None else partial(weighted, self.loss)

    def parts(self, views: Views | None) -> int | None:
        """How many parts a row has, whose losses are averaged; None where it is one record."""
        unit = self.data.spec.unit
        if unit is None:
            return None if views is None else views.count
        return unit.records * (1 if views is None else views.count)

    @property
    def claims(self) -> bool:
        """Whether the run may claim privacy: noise is drawn, and nothing private is shown."""
        return self.plan.private and not self.settings.diagnostics


def prepare(
    plan: Plan | CalibratedPlan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    loss: Loss | None,
    labels: Mapping[str, Any],
    public: Data | None = None,
    metrics: Metrics | None = None,
    ranks: Ranks = ALONE,
) -> PreparedRun:
    """Check everything that a run is made of, and calibrate its noise if it has none yet.

    Args:
        loss: None takes the task's own.
        metrics: a user's, beside those of the task.
        ranks: who train together, from the first one's weights; each has all the data at hand,
            and reads its own slots'.
    """
    refuse_other_sharding(model, ranks)
    loss = _loss_of(data.spec, loss)
    measures = {**data.spec.task.metrics, **(metrics or {})}
    model, device, space, traced = _checked(plan.phases, data, model, settings, loss, public)
    ranks.follow(replicated(model))
    if isinstance(plan, Plan):
        plan = calibrate(plan, settings, data.spec.records)
    noun = "records" if data.units is None else "units"
    slots = ranks.agreed(lambda: Slots.drawn(data.spec.records, len(data.protected), noun))
    stand_in = tree_map(lambda v_1: _alike(v_1, data.spec.unit), traced.stand_in())
    try_metrics(model, data, measures)
    return PreparedRun(
        plan=plan,
        settings=settings,
        data=data,
        model=model,
        loss=loss,
        device=device,
        space=space,
        labels=labels,
        traced=traced,
        slots=slots.part(ranks.rank, ranks.size),
        records=Records(data, device, stand_in, settings.workers, settings.data_on_device),
        metrics=measures,
        public=public,
        ranks=ranks,
    )


def _loss_of(spec: DataSpec, loss: Loss | None) -> Loss:
    """The loss that is given or the task's own, times the record's weight if it has one."""
    chosen = loss if loss is not None else spec.task.loss
    if chosen is None:
        raise ModelError(
            "this task has no loss of its own",
            where=spec.name,
            got=f"task {spec.task}",
            remedy="Give `loss`: outputs and targets of a batch of one record to one number.",
        )
    return chosen if spec.weight_bound is None else partial(weighted, chosen)


def _checked(
    phases: Sequence[Phase],
    data: Data,
    model: nn.Module,
    settings: Settings,
    loss: Loss,
    public: Data | None,
) -> tuple[nn.Module, torch.device, Space, Traced]:
    """The model on its device, the device, the space of what trains, and what a trace shows."""
    settings.sampler(data.spec.records)
    if not len(data.test):
        raise DataError(
            "there is no held-out record to evaluate on",
            where=data.spec.name,
            remedy="Give a held-out split; its records are public.",
        )
    refuse_shared(data, public)
    device = settings.torch_device()
    refuse_mixing_modules(model)
    model = model.to(device)
    _check_tokens(data, model)
    row_loss = loss if data.units is None else partial(weighted, loss)
    traced = _traced(LossOfOne(model, row_loss, settings.precision), data, device)
    space = Space.of(trainable(model))
    for phase in phases:
        if is_sharded(model):
            refuse_whole_rows(phase)
        for pipeline in phase.pipelines:
            pipeline.check(pipeline.row_space(space, data.spec.shape))
            _check_public(pipeline, data, public)
            _check_unit(pipeline, data.spec)
            _check_buffers(pipeline, data, model)
    if public is not None:
        _check_needed(phases, public)
    return model, device, space, traced


def _alike(v_1: Tensor, unit: Unit | None) -> Tensor:
    """A made-up unit, 1 × K × …, of one made-up record, 1 × …, if units are what is protected."""
    return v_1 if unit is None else v_1[:, None].expand(-1, unit.records, *v_1.shape[1:])


def _traced(loss: LossOfOne, data: Data, device: torch.device) -> Traced:
    """What made-up records of the declared shapes show of the model, in training mode."""
    form = form_of(data.protected)
    if data.units is not None:
        form = tree_map(lambda v_UK: v_UK.flatten(0, 1), form)
    x, y = tree_map(lambda v: v.to(device), form)
    before = loss.model.training
    loss.model.train()
    try:
        return trace(loss, trainable(loss.model), x, y)
    finally:
        loss.model.train(before)


def _check_tokens(data: Data, model: nn.Module) -> None:
    """An error if an integer input is no row of the model's largest embedding."""
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    if not tables or all(v.is_floating_point() for v in tree_leaves(form_of(data.train)[0])):
        return
    splits: tuple[Split, ...] = ("training", "held-out")
    for split in splits:
        for x_B, _ in data.batches(split):
            for v in filter(_whole, tree_leaves(x_B)):
                if int(v.min()) < 0 or int(v.max()) >= max(tables):
                    raise DataError(
                        f"a {split} token lies outside of every embedding of the model",
                        where=data.spec.name,
                        expected=f"0…{max(tables) - 1}",
                        remedy="Give a model with a row for each token.",
                    )


def _whole(v: Tensor) -> bool:
    return not v.is_floating_point() and v.dtype != torch.bool and v.numel() > 0


def _check_needed(phases: Sequence[Phase], public: Data) -> None:
    """An error if public data was given and no stage of the plan would look at it."""
    placed = (p for phase in phases for line in phase.pipelines for p in line.placed)
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
    here, there = data.spec, public.spec
    fewer = there.classes is None or here.classes is None or there.classes <= here.classes
    if there.shape != here.shape or there.task != here.task or not fewer:
        raise ConfigurationError(
            "the public data does not fit the private data",
            where=there.name,
            got=f"{there.shape}, {there.classes} classes",
            expected=f"{here.shape}, at most {here.classes} classes",
        )


def _check_unit(pipeline: Pipeline, spec: DataSpec) -> None:
    """An error for a statistic that looks at one record's values, where rows are units'."""
    statistic = pipeline.statistic
    if spec.unit is not None and statistic is not None and not of_loss(statistic):
        raise ConfigurationError(
            "this statistic is of one record, and a row is a unit's here",
            where=name_of(statistic),
            got=called(spec.unit),
            remedy="Leave the phase out, or promise privacy by record.",
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
