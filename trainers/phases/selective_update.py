"""A selective update: its own sample, its own release, and a decision to keep or take back."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    Driver,
    NoiseSource,
    PhaseContext,
    Reads,
    SelectiveUpdate,
)
from dpigu.trainers.engines import choose_whole, norms_of
from dpigu.trainers.lifecycle.prepare import PreparedRun
from dpigu.trainers.phases.batches import Batches
from dpigu.trainers.phases.slots import Slots
from torch import Tensor, nn


class Snapshot:
    """Weights and the optimizer's state before an update, to put back if it is refused."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
    ) -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self.weights = {name: p.detach().clone() for name, p in parameters.items()}
        self._state = copy.deepcopy(optimizer.state_dict())

    def put_back(self) -> None:
        """Make the update undone, momentum included."""
        for name, parameter in self._parameters.items():
            parameter.data.copy_(self.weights[name])
        self._optimizer.load_state_dict(self._state)


class RunningSelectiveUpdate:
    """Decides on updates, each by a release from a fresh sample at a rate of its own.

    Args:
        prepared: the run.
        selective_update: what is released of every record, and who decides.
        microbatch: how many records go through the model at a time.
        noise: where the bits of the kernel's noise come from.
        slots: where the records sit.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        selective_update: SelectiveUpdate,
        microbatch: int,
        noise: NoiseSource,
        slots: Slots,
    ) -> None:
        self._prepared, self._selective_update, self._noise = prepared, selective_update, noise
        self._space = selective_update.pipeline.row_space(prepared.space, prepared.data.spec.shape)
        sampler = selective_update.sampler(prepared.sampler)
        microbatch = min(microbatch, math.ceil(prepared.share(sampler.expected_batch)))
        self._batches = Batches(slots, sampler, microbatch, prepared.records)

    def accepts(
        self,
        before: Mapping[str, Tensor],
        parameters: Mapping[str, nn.Parameter],
        clock: Clock,
        reads: Reads,
    ) -> bool:
        """Whether the update from `before` to the parameters is kept: one charged release."""
        prepared, selective_update = self._prepared, self._selective_update
        settings = prepared.settings
        pipeline = BoundPipeline(selective_update.pipeline, self._space, reads, prepared.device)
        make = choose_whole(settings.engine, prepared.traced)
        microbatch = self._batches.microbatch
        engine = make(
            prepared.model,
            prepared.row_loss,
            norms_of(pipeline),
            microbatch,
            settings.precision,
            prepared.parts(None),
        )
        driver = Driver(
            pipeline,
            expected_batch=self._batches.sampler.expected_batch,
            relative_error=engine.relative_error,
            noise=self._noise,
            ranks=prepared.ranks,
        )
        before_D = prepared.space.join(before)
        start = PhaseContext(self._space, before_D, clock.steps, settings.seed)
        step = driver.open(pipeline.begin(start), clock)
        weights = {name: p.detach() for name, p in parameters.items()}
        release, _ = step.release(self._batches.rows(engine, weights, step.context.transform))
        return prepared.ranks.agreed(lambda: selective_update.decision.accepts(release.gradient))
