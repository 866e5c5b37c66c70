"""One phase at work: its driver, its engine, and a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Protocol

import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    DenseRows,
    Driver,
    NoiseSource,
    OpenStep,
    Phase,
    PhaseContext,
    Pipeline,
    Reads,
    Release,
    Rows,
    RunError,
    States,
    StepContext,
)
from dpigu.dpcore.devices import to_device
from dpigu.dpcore.grammar.stages import TrainingStatistic, asks_weights, public_records_of
from dpigu.trainers.distributed import all_whole
from dpigu.trainers.engines import (
    ENGINES,
    choose,
    choose_whole,
    microbatch_of,
    norms_of,
    row_gradients,
)
from dpigu.trainers.lifecycle.prepare import PreparedRun
from dpigu.trainers.phases.batches import Batches
from dpigu.trainers.phases.selective_update import RunningSelectiveUpdate, Snapshot
from dpigu.trainers.phases.slots import Slots
from dpigu.trainers.settings import masked_step
from torch import Tensor, nn
from torch.utils._pytree import tree_map


class Observer(Protocol):
    """Watches a run from outside: white-box canaries and audits."""

    def extra_rows(self, phase: str, context: StepContext) -> Tensor | None:
        """Rows to add to this step's batch, after the row maps and before the clipper."""
        ...

    def see(self, phase: str, release: Release) -> None:
        """What the step released."""
        ...


class RunningPhase:
    """A phase bound to a model's space, with the engine that serves its pipeline.

    Args:
        prepared: the run.
        phase: one of its plan's.
        earlier: what past phases hand on to read.
        noise: where the bits of the kernel's noise come from.
        observer: adds rows and watches releases, on the first rank; or None.
        slots: where the records sit; the run's own where None are given.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        phase: Phase,
        earlier: Reads,
        noise: NoiseSource,
        observer: Observer | None,
        slots: Slots | None = None,
    ) -> None:
        self.phase = phase
        stages, settings, traced = phase.pipeline, prepared.settings, prepared.traced
        space = stages.row_space(prepared.space, prepared.data.spec.shape)
        self.pipeline = BoundPipeline(stages, space, earlier, prepared.device)
        self._prepared = prepared
        self._observer = observer if prepared.ranks.rank == 0 else None
        slots = prepared.slots if slots is None else slots
        sampler, parts = phase.sampler(prepared.sampler), prepared.parts(stages.views)
        engine = choose(settings.engine, traced, self.pipeline).engine
        microbatch = microbatch_of(
            engine,
            prepared.model,
            traced,
            settings.physical_batch,
            self.pipeline,
            prepared.share(sampler.expected_batch),
            parts,
        )
        self._selective_update = None
        if phase.selective_update is not None:
            self._selective_update = RunningSelectiveUpdate(
                prepared, phase.selective_update, microbatch, noise, slots
            )
        self._public = PublicGradients(prepared, stages)
        by_unit = prepared.data.spec.unit is not None
        self._batches = Batches(
            slots, sampler, microbatch, prepared.records, stages.views, by_unit, prepared.pieces
        )
        self._engine = ENGINES[engine](
            prepared.model,
            prepared.row_loss,
            norms_of(self.pipeline),
            microbatch,
            settings.precision,
            parts,
        )
        self._driver = Driver(
            self.pipeline,
            expected_batch=sampler.expected_batch,
            relative_error=self._engine.relative_error,
            noise=noise,
            ranks=prepared.ranks,
        )

    def begin(self, parameters: Mapping[str, Tensor]) -> States:
        """Every stage's state before the first step."""
        weights = {n: p.detach() for n, p in parameters.items()}
        weights_D = self._prepared.space.join(all_whole(weights))
        public_MD = self._public.at(weights)
        seed, steps = self._prepared.settings.seed, self.phase.steps
        return self.pipeline.begin(
            PhaseContext(self.pipeline.space, weights_D, steps, seed, public_MD)
        )

    def step(
        self, states: States, step: int, parameters: Mapping[str, Tensor]
    ) -> tuple[Release, States]:
        """Sample a batch, form its rows, release."""
        opened = self._driver.open(states, Clock(step, self.phase.steps))
        weights = self._weights(opened, parameters)
        public_MD = self._public.at(weights, opened.context.clock)
        opened = opened.showing(public_MD, self._stand(weights))
        transform = opened.context.transform
        batch = self._batches.rows(self._engine, weights, transform, step)
        try:
            release, states = opened.release(chain(batch, self._extra_rows(opened.context)))
        except torch.OutOfMemoryError as error:
            raise RunError(
                "the device has not enough memory for a microbatch",
                where=f"settings.physical_batch on {self._prepared.device}",
                got=self._batches.microbatch,
                remedy="Give a smaller `physical_batch`; it never changes the result.",
            ) from error
        if self._observer is not None:
            self._observer.see(self.phase.name, release)
        return release, states

    @property
    def microbatch(self) -> int:
        """How many records go through the model at a time."""
        return self._batches.microbatch

    def trial(self, states: States, pieces: int, parameters: Mapping[str, Tensor]) -> States:
        """A step of so many microbatches of made-up records; the states that would follow.

        It costs what a step costs, and tells nothing of a record.
        """
        batch = self._prepared.sampler.expected_batch
        error = self._engine.relative_error
        alone = Driver(self.pipeline, expected_batch=batch, relative_error=error)
        opened = alone.open(states, Clock(0, self.phase.steps))
        weights = self._weights(opened, parameters)
        opened = opened.showing(self._public.at(weights))
        transform = opened.context.transform
        made_up = self._batches.made_up(pieces, self._engine, weights, transform)
        return opened.release(made_up)[1]

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, nn.Parameter],
        states: States,
        release: Release,
    ) -> bool:
        """What the release does to the model; False if it was taken back again.

        A gradient moves the weights by a step of the optimizer, a statistic sets the buffers
        that it is fitted to, or makes a gradient.
        """
        statistic = self.phase.pipeline.statistic
        if isinstance(statistic, TrainingStatistic):
            state = states[self.phase.pipeline.name_in("statistic")]
            gradient, support_D = statistic.gradient(state, release), release.support_D
            if self.pipeline.space != self._prepared.space:
                support_D = torch.ones_like(gradient.value, dtype=torch.bool)
            release = replace(release, gradient=gradient, support_D=support_D)
        elif statistic is not None:
            buffers = dict(self._prepared.model.named_buffers())
            for name, value in statistic.fitted(buffers, release).items():
                buffers[name].copy_(value)
            return True
        if self._selective_update is None:
            masked_step(optimizer, parameters, self._prepared.space, release)
            return True
        snapshot = Snapshot(optimizer, parameters)
        masked_step(optimizer, parameters, self._prepared.space, release)
        reads = self.pipeline.views(states)
        kept = self._selective_update.accepts(snapshot.weights, parameters, release.clock, reads)
        if not kept:
            snapshot.put_back()
        return kept

    def _weights(self, step: OpenStep, parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Where the gradient is taken: at the weights, or where the pipeline's point says."""
        weights = {name: p.detach() for name, p in parameters.items()}
        pipeline, space = self.phase.pipeline, self._prepared.space
        if pipeline.point is None:
            return weights
        state = step.states[pipeline.name_in("point")]
        return space.split(pipeline.point.at(state, space.join(weights), step.context.support_D))

    def _stand(self, weights: Mapping[str, Tensor]) -> Tensor | None:
        """Where a step stands, if a stage asks: a copy, since weights are moved in place."""
        if not any(asks_weights(p.stage) for p in self.phase.pipeline.placed):
            return None
        return self._prepared.space.join(all_whole(weights)).clone()

    def _extra_rows(self, context: StepContext) -> Iterator[Rows]:
        """The observer's rows, asked for after all others."""
        if self._observer is None:
            return
        extra_KD = self._observer.extra_rows(self.phase.name, context)
        if extra_KD is not None:
            yield DenseRows(extra_KD, *self.pipeline.groups)


class PublicGradients:
    """Gradients of public records, for the stages that ask for them.

    Args:
        prepared: the run, with its public data.
        pipeline: its stages say by `public_records` how many they want; the most counts.
    """

    def __init__(self, prepared: PreparedRun, pipeline: Pipeline) -> None:
        self._prepared = prepared
        self._stages = [p.stage for p in pipeline.placed]

    def at(self, weights: Mapping[str, Tensor], clock: Clock | None = None) -> Tensor | None:
        """The gradients of a fresh sample at these weights, M × D, or None if nobody asks at this
        step; before the first, None, whoever ever asks."""
        prepared = self._prepared
        records = max(public_records_of(stage, clock) for stage in self._stages)
        if not records or prepared.public is None:
            return None
        source = prepared.public.train
        at = prepared.ranks.agreed(lambda: torch.randint(len(source), (records,)).numpy())
        x_M, y_M = tree_map(lambda v: to_device(v, prepared.device), source.read(at))
        engine = choose_whole(prepared.settings.engine, prepared.traced)
        return row_gradients(prepared.model, prepared.loss, weights, x_M, y_M, engine)
