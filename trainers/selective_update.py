"""A look at an update: its own sample, its own kernel, and a decision to keep or take back."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping

import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    Kernel,
    NoiseSource,
    PhaseContext,
    Reads,
    Rows,
    SelectiveUpdate,
)
from dpigu.trainers.engines.choice import choose_whole
from dpigu.trainers.engines.materialising import norms_of
from dpigu.trainers.engines.randomness import reseeded
from dpigu.trainers.prepare import PreparedRun
from dpigu.trainers.slots import Slots
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
    """Looks at updates, each on a fresh sample at the look's own rate.

    Args:
        setup: the run.
        look: what is released of every record, and who decides.
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
        statistic = selective_update.pipeline.statistic
        assert statistic is not None
        self._prepared, self._look, self._noise, self._slots = (
            prepared,
            selective_update,
            noise,
            slots,
        )
        self._space = statistic.row_space(prepared.space, prepared.data.spec.shape)
        self._sampler = selective_update.sampler(prepared.sampler)
        self._microbatch = min(microbatch, math.ceil(self._sampler.expected_batch))

    def accepts(
        self,
        before: Mapping[str, Tensor],
        parameters: Mapping[str, nn.Parameter],
        clock: Clock,
        reads: Reads,
    ) -> bool:
        """Whether the update from `before` to the parameters is kept: one charged release."""
        prepared = self._prepared
        binding = BoundPipeline(self._look.pipeline, self._space, reads, prepared.device)
        engine = choose_whole(prepared.settings.engine, prepared.traced)(
            prepared.model,
            prepared.loss,
            norms_of(binding),
            self._microbatch,
            prepared.settings.precision,
        )
        kernel = Kernel(
            binding,
            expected_batch=self._sampler.expected_batch,
            relative_error=engine.relative_error,
            noise=self._noise,
        )
        before_D = prepared.space.join(before)
        states = binding.begin(
            PhaseContext(self._space, before_D, clock.steps, prepared.settings.seed)
        )
        frame = binding.open(states, clock)
        weights = {name: p.detach() for name, p in parameters.items()}

        def batch() -> Iterator[Rows]:
            records = prepared.records
            sampled = self._slots.sample(self._sampler, self._microbatch, records.home)
            for x_B, y_B, valid_B in records.microbatches(sampled):
                with reseeded(prepared.device):
                    rows = engine.rows(weights, x_B, y_B, valid_B, frame.transform)
                yield rows

        release, _ = kernel.release(states, frame, batch())
        return self._look.decision.accepts(release.gradient)
