"""What a run is made of, checked and calibrated before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from dpigu.dpcore import (
    CalibratedPlan,
    DataError,
    ModelError,
    Phase,
    Plan,
    PoissonSampler,
    Ranks,
    Space,
    Views,
)
from dpigu.dpcore.ranks import ALONE
from dpigu.dpcore.unit import Unit
from dpigu.trainers.calibration import calibrate
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.data.overlap import refuse_shared
from dpigu.trainers.data.sources import form_of
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
from dpigu.trainers.lifecycle.fitting import (
    check_buffers,
    check_needed,
    check_public,
    check_tokens,
    check_unit,
)
from dpigu.trainers.lifecycle.public_weights import declared_public
from dpigu.trainers.models.mixing import refuse_mixing_modules
from dpigu.trainers.phases.reading import Records
from dpigu.trainers.phases.slots import Slots
from dpigu.trainers.settings import Settings
from dpigu.trainers.tasks import Metrics
from dpigu.trainers.tasks.losses import weighted, weights_cancel
from torch import Tensor, nn
from torch.utils._pytree import tree_map

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
    if "weights" not in labels and (weights := declared_public(model)) is not None:
        labels = {**labels, "weights": weights.to_dict()}
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
    if not spec.target and weights_cancel(chosen):
        raise ModelError(
            "the class weights cancel in a mean over one record: it divides by that record's own",
            where="loss",
            got=f"{type(chosen).__name__}(weight=…, reduction='mean')",
            remedy="Take reduction='sum': a loss sees a batch of one record.",
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
    check_tokens(data, model)
    row_loss = loss if data.units is None else partial(weighted, loss)
    traced = _traced(LossOfOne(model, row_loss, settings.precision), data, device)
    space = Space.of(trainable(model))
    for phase in phases:
        if is_sharded(model):
            refuse_whole_rows(phase)
        for pipeline in phase.pipelines:
            pipeline.check(pipeline.row_space(space, data.spec.shape))
            check_public(pipeline, data, public)
            check_unit(pipeline, data.spec)
            check_buffers(pipeline, data, model)
    if public is not None:
        check_needed(phases, public)
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
