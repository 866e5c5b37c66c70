"""One phase at work: its kernel, its engine, and a step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from dpcore import (
    Binding,
    Clock,
    ConfigurationError,
    Context,
    DenseRows,
    Frame,
    Kernel,
    NoiseSource,
    Phase,
    Reads,
    Release,
    Rows,
    RunError,
    States,
    Transform,
)
from trainers.engine import MaterialisingEngine, Norms, RowEngine, microbatches
from trainers.ghost import GhostEngine, reason_against
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
        self.binding = Binding(phase.pipeline, setup.space, earlier, setup.device)
        self._setup = setup
        self._observer = observer
        self._norms = _norms(self.binding)
        largest = math.ceil(setup.sampler.expected_batch)
        self._microbatch = min(setup.settings.microbatch(setup.space.size), largest)
        self._engine = choose_engine(setup, self.binding, self._norms, self._microbatch)
        self._kernel = Kernel(
            self.binding,
            expected_batch=setup.sampler.expected_batch,
            relative_error=self._engine.relative_error,
            noise=noise,
        )

    def begin(self, parameters: Mapping[str, Tensor]) -> States:
        """Every stage's state before the first step."""
        weights_D = self._setup.space.join({n: p.detach() for n, p in parameters.items()})
        seed = self._setup.settings.seed
        return self.binding.begin(Context(self._setup.space, weights_D, self.phase.steps, seed))

    def step(
        self, states: States, step: int, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor
    ) -> tuple[Release, States]:
        """Sample a batch, form its rows, release."""
        frame = self.binding.open(states, Clock(step, self.phase.steps))
        weights = self._weights(states, frame, parameters)
        batch = self._batch(frame, weights, x, y)
        try:
            release, states = self._kernel.release(states, frame, batch)
        except torch.OutOfMemoryError as error:
            raise RunError(
                "the device has not enough memory for a microbatch",
                where=f"settings.physical_batch on {self._setup.device}",
                got=self._microbatch,
                remedy="Give a smaller --physical-batch; it never changes the result.",
            ) from error
        if self._observer is not None:
            self._observer.see(self.phase.name, release)
        return release, states

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
            yield self._engine.rows(weights, x[at], y[at], alive_B, frame.transform)
        if self._observer is not None:
            extra_KD = self._observer.extra_rows(self.phase.name, frame)
            if extra_KD is not None:
                yield DenseRows(extra_KD, self._norms.groups_K, self._norms.count)


def _norms(binding: Binding) -> Norms:
    """The clipper's groups in the space of the rows."""
    by = binding.pipeline.clipper.groups
    if by == "all":
        return Norms(None, 1)
    groups_K = binding.output.groups(by)
    return Norms(groups_K.to(binding.device), binding.output.group_count(by))


def choose_engine(setup: Setup, binding: Binding, norms: Norms, microbatch: int) -> RowEngine:
    """The engine that the settings ask for; `auto` takes the fast one wherever it applies."""
    autocast = torch.bfloat16 if setup.settings.autocast else None
    maps = tuple((p.stage, {}) for p in binding.pipeline.of("row"))
    reason = reason_against(Transform(binding.space, binding.output, maps, None))
    if setup.settings.engine == "ghost" and reason is not None:
        raise ConfigurationError(
            f"the fast engine does not apply: {reason}",
            where="settings.engine",
            got="ghost",
            expected="auto or materialising",
        )
    fast = setup.settings.engine != "materialising" and reason is None
    make = GhostEngine if fast else MaterialisingEngine
    return make(setup.model, setup.loss, norms, microbatch, autocast)
