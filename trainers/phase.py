"""One phase at work: its kernel, its engine, and a step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from dpcore import (
    Binding,
    Clock,
    ConfigurationError,
    Context,
    DenseRows,
    Frame,
    Kernel,
    ModelError,
    NoiseSource,
    Phase,
    Pipeline,
    PoissonSampler,
    Reads,
    Release,
    Rows,
    RunError,
    States,
)
from dpcore.stages import public_records_of
from trainers.engine import (
    MaterialisingEngine,
    Norms,
    RowEngine,
    microbatches,
    norms_of,
    row_gradients,
)
from trainers.ghost import GhostEngine, reason_against_binding
from trainers.look import RunningLook, Snapshot
from trainers.microbatch import automatic, evened
from trainers.settings import masked_step
from trainers.setup import Setup


class Observer(Protocol):
    """Watches a run from outside: white-box canaries and audits."""

    def extra_rows(self, phase: str, frame: Frame) -> Tensor | None:
        """Rows to add to this step's batch, after the row maps and before the clipper."""
        ...

    def see(self, phase: str, release: Release) -> None:
        """What the step released."""
        ...


class RunningPhase:
    """A phase bound to a model's space, with the engine that serves its pipeline.

    Args:
        setup: the run.
        phase: one of its plan's.
        earlier: what past phases hand on to read.
        noise: where the kernel's normal draws come from.
        observer: adds rows and watches releases, or None.
    """

    def __init__(
        self,
        setup: Setup,
        phase: Phase,
        earlier: Reads,
        noise: NoiseSource,
        observer: Observer | None,
    ) -> None:
        self.phase = phase
        pipeline = phase.pipeline
        space = pipeline.row_space(setup.space, setup.data.spec.shape)
        self.binding = Binding(pipeline, space, earlier, setup.device)
        self._setup = setup
        self._observer = observer
        self._norms = norms_of(self.binding)
        self._microbatch = microbatch_of(setup, self.binding, setup.sampler)
        self._look = None
        if phase.look is not None:
            self._look = RunningLook(setup, phase.look, self._microbatch, noise)
        self._public = PublicGradients(setup, pipeline)
        self._engine = choose_engine(setup, self.binding, self._norms, self._microbatch)
        self._kernel = Kernel(
            self.binding,
            expected_batch=setup.sampler.expected_batch,
            relative_error=self._engine.relative_error,
            noise=noise,
        )

    def begin(self, parameters: Mapping[str, Tensor]) -> States:
        """Every stage's state before the first step."""
        weights = {n: p.detach() for n, p in parameters.items()}
        weights_D, public_MD = self._setup.space.join(weights), self._public.at(weights)
        seed, steps = self._setup.settings.seed, self.phase.steps
        return self.binding.begin(Context(self.binding.space, weights_D, steps, seed, public_MD))

    def step(
        self, states: States, step: int, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor
    ) -> tuple[Release, States]:
        """Sample a batch, form its rows, release."""
        frame = self.binding.open(states, Clock(step, self.phase.steps))
        weights = self._weights(states, frame, parameters)
        frame = replace(frame, public_MD=self._public.at(weights))
        batch = self._batch(frame, weights, x, y)
        buffers = self._buffers()
        try:
            release, states = self._kernel.release(states, frame, batch)
        except torch.OutOfMemoryError as error:
            raise RunError(
                "the device has not enough memory for a microbatch",
                where=f"settings.physical_batch on {self._setup.device}",
                got=self._microbatch,
                remedy="Give a smaller --physical-batch; it never changes the result.",
            ) from error
        if changed := sorted(buffers.items() ^ self._buffers().items()):
            raise ModelError(
                "the model changed a buffer while it looked at records, and nothing noised that",
                where=changed[0][0],
                remedy="Keep nothing of the inputs in forward; release it in a statistic phase.",
            )
        if self._observer is not None:
            self._observer.see(self.phase.name, release)
        return release, states

    def _buffers(self) -> dict[str, tuple[int, int]]:
        """Which tensor each buffer of the model is, and how often it was written to."""
        return {n: (id(b), b._version) for n, b in self._setup.model.named_buffers()}

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, nn.Parameter],
        states: States,
        release: Release,
        x: Tensor,
        y: Tensor,
    ) -> bool:
        """What the release does to the model; False if a look took it back again.

        A gradient moves the weights by a step of the optimizer, a statistic sets the buffers
        that it is fitted to.
        """
        statistic = self.phase.pipeline.statistic
        if statistic is not None:
            buffers = dict(self._setup.model.named_buffers())
            for name, value in statistic.fitted(buffers, release).items():
                buffers[name].copy_(value)
            return True
        if self._look is None:
            masked_step(optimizer, parameters, self._setup.space, release)
            return True
        snapshot = Snapshot(optimizer, parameters)
        masked_step(optimizer, parameters, self._setup.space, release)
        reads = self.binding.views(states)
        kept = self._look.accepts(snapshot.weights, parameters, release.clock, reads, x, y)
        if not kept:
            snapshot.put_back()
        return kept

    def _weights(
        self, states: States, frame: Frame, parameters: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Where the gradient is taken: at the weights, or where the pipeline's point says."""
        weights = {name: p.detach() for name, p in parameters.items()}
        pipeline, space = self.phase.pipeline, self._setup.space
        if pipeline.point is None:
            return weights
        state = states[pipeline.name_in("point")]
        return space.split(pipeline.point.at(state, space.join(weights), frame.support_D))

    def _batch(
        self, frame: Frame, weights: Mapping[str, Tensor], x: Tensor, y: Tensor
    ) -> Iterator[Rows]:
        indices = self._setup.sampler.draw(len(x))
        for at, alive_B in microbatches(indices, self._microbatch, x.device):
            yield self._engine.rows(weights, self._viewed(x[at]), y[at], alive_B, frame.transform)
        if self._observer is not None:
            extra_KD = self._observer.extra_rows(self.phase.name, frame)
            if extra_KD is not None:
                yield DenseRows(extra_KD, self._norms.groups_K, self._norms.count)

    def _viewed(self, x_B: Tensor) -> Tensor:
        """The views of every record, each drawn for itself; the records where there are none."""
        views = self.phase.pipeline.views
        if views is None:
            return x_B
        x_BV: Tensor = torch.func.vmap(views.views, randomness="different")(x_B)
        return x_BV


class PublicGradients:
    """Gradients of public records, for the stages that ask for them.

    Args:
        setup: the run, with its public data.
        pipeline: its stages say by `public_records` how many they want; the most counts.
    """

    def __init__(self, setup: Setup, pipeline: Pipeline) -> None:
        self._setup = setup
        self._records = max(public_records_of(p.stage) for p in pipeline.placed)

    def at(self, weights: Mapping[str, Tensor]) -> Tensor | None:
        """The gradients of a fresh sample at these weights, M × D, or None if nobody asks."""
        setup = self._setup
        if not self._records or setup.public is None:
            return None
        x, y = setup.public.train_x, setup.public.train_y
        at = torch.randint(len(x), (self._records,))
        x_M, y_M = x[at].to(setup.device), y[at].to(setup.device)
        return row_gradients(setup.model, setup.loss, weights, x_M, y_M)


def choose_engine(setup: Setup, binding: Binding, norms: Norms, microbatch: int) -> RowEngine:
    """The engine that the settings ask for; `auto` takes the fast one wherever it applies."""
    reason = reason_against_binding(binding)
    if setup.settings.engine == "ghost" and reason is not None:
        raise ConfigurationError(
            f"the fast engine does not apply: {reason}",
            where="settings.engine",
            got="ghost",
            expected="auto or materialising",
        )
    views = binding.pipeline.views
    return (GhostEngine if _fast(setup, binding) else MaterialisingEngine)(
        setup.model,
        setup.loss,
        norms,
        microbatch,
        setup.settings.precision,
        None if views is None else views.count,
    )


def microbatch_of(setup: Setup, binding: Binding, sampler: PoissonSampler) -> int:
    """Records in a microbatch: as set, or from public shapes and the engine's budget."""
    records = setup.settings.physical_batch
    if records == "auto":
        fast, views = _fast(setup, binding), binding.pipeline.views
        shape, size = setup.data.spec.shape, binding.space.size
        most = automatic(setup.model, shape, size, fast=fast, device=setup.device)
        most = max(1, most // (1 if views is None else views.count))
        records = evened(most, sampler.expected_batch)
    return min(records, math.ceil(sampler.expected_batch))


def _fast(setup: Setup, binding: Binding) -> bool:
    """Whether the fast engine serves this pipeline."""
    wanted = setup.settings.engine != "materialising"
    return wanted and reason_against_binding(binding) is None
