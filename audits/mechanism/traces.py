"""A short run and its trace: what a few steps of a plan release, with or without one record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from dpigu.audits.mechanism.adversary import Situation, adversarial_rows
from dpigu.audits.mechanism.expected import Answer, expected_share, row_at_the_clipper
from dpigu.dpcore import (
    Adjacency,
    BoundPipeline,
    Clock,
    DenseRows,
    DpiguError,
    NoiseSource,
    Phase,
    PhaseContext,
    Pipeline,
    Reads,
    Release,
    Rows,
    Space,
    States,
    StepContext,
)
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.mechanisms.public_random import public_generator
from torch import Tensor

RECORDS = 16
"""The declared number of records: the divisor at rate 1."""

SPACE = Space(
    ("conv.weight", "conv.bias", "hidden.weight", "hidden.bias", "out.weight", "out.bias"),
    ((2, 1, 2, 2), (2,), (2, 3), (2,), (2, 2), (2,)),
)
"""Where plans are audited unless their stages need another: three layers, 24 coordinates."""

PUBLIC = 6
"""How many public records' gradients stages are shown."""

SHAPE = (2, 2, 2)
"""The shape of a record, for pipelines whose rows are a statistic of it."""


class Releaser(Protocol):
    """What releases a step: `dpcore.Kernel`, or whatever else is to be audited."""

    def release(
        self, states: States, frame: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        """See `Kernel.release`."""
        ...


class MakeReleaser(Protocol):
    """Makes the releaser of a phase: `dpcore.Kernel` itself is one."""

    def __call__(
        self,
        binding: BoundPipeline,
        *,
        expected_batch: float,
        relative_error: float,
        noise: NoiseSource | None,
    ) -> Releaser: ...


@dataclass(frozen=True)
class ReleasedStep:
    """What one step showed, and what the adversary expected of it.

    Args:
        phase: the phase's name.
        release: all that the step made public.
        states: the stages' states after it, public too.
        bound: C of the step.
        sigma: the noise multiplier of its phase.
        expected_K: the one record's guarded row, as it should enter the sum.
        answers: the one record's guarded query vectors, likewise, each with the ratio of its
            noise and its bound.
    """

    phase: str
    release: Release
    states: States
    bound: float
    sigma: float
    expected_K: Tensor
    answers: Mapping[str, Answer]


@dataclass(frozen=True)
class Trace:
    """One run of a short run; `stopped` if a step was refused, which is public."""

    steps: tuple[ReleasedStep, ...]
    stopped: bool = False


@dataclass(frozen=True)
class Leg:
    """Some steps of one phase: `steps` of them from `first` on, from `start` if not the start."""

    phase: Phase
    steps: int
    first: int = 0
    start: States | None = None


@dataclass(frozen=True)
class Moment:
    """Where a run of a short run stands before a release.

    Args:
        situation: what the record does.
        present: whether it is in the batch.
        clock: of the phase.
        done: the steps of the short run so far.
        released_D: the sum of what the phase released so far.
    """

    situation: Situation
    present: bool
    clock: Clock
    done: int
    released_D: Tensor


@dataclass(frozen=True)
class ShortRun:
    """Steps of a plan that are run together, and what their event allows.

    Args:
        name: in words.
        legs: the phases' parts, in order.
        mu: the event of these steps is μ-GDP: μ = Δ·√(Σ 1/z²), Δ = 2 under replace-one, else 1.
        adjacency: which pairs of batches are neighbours.
        space: where the rows live.
        make: makes the releaser of each leg.
        noise: where its normal draws come from; None takes the system's.
        earlier: the stages of past phases.
    """

    name: str
    legs: tuple[Leg, ...]
    mu: float
    adjacency: Adjacency
    space: Space
    make: MakeReleaser
    noise: NoiseSource | None = None
    earlier: Reads = dataclasses.field(default_factory=dict)

    @property
    def distance(self) -> float:
        """Δ of the plan's relation: `distance_of`."""
        return distance_of(self.adjacency)

    def run(self, situation: Situation, present: bool) -> Trace:
        """One run, with the record or without it (under replace-one: with its negative)."""
        steps: list[ReleasedStep] = []
        try:
            steps.extend(self._steps(situation, present))
        except DpiguError:
            return Trace(tuple(steps), stopped=True)
        return Trace(tuple(steps))

    def check(self) -> None:
        """Run once on an ordinary batch; a `DpiguError` if the plan cannot run at all."""
        for _ in self._steps(Situation(name="a batch", crowd=1), present=True):
            pass

    def _steps(self, situation: Situation, present: bool) -> Iterator[ReleasedStep]:
        earlier = self.earlier
        done = 0
        for leg in self.legs:
            phase = leg.phase
            binding = bound_in(phase.pipeline, self.space, earlier)
            states = leg.start if leg.start is not None else begin(binding, phase.steps)
            releaser = self._releaser(binding)
            released_D = torch.zeros(binding.space.size, dtype=torch.float64)
            for step in range(leg.first, leg.first + leg.steps):
                clock = Clock(step, phase.steps)
                moment = Moment(situation, present, clock, done, released_D)
                shown = self._shown(phase.name, binding, releaser, states, moment)
                yield shown
                states = shown.states
                if phase.selective_update is not None:
                    yield self._looked(phase, binding.views(states), moment)
                released_D = released_D + shown.release.gradient.value
                done += 1
            earlier = binding.views(states)

    def _looked(self, phase: Phase, reads: Reads, moment: Moment) -> ReleasedStep:
        """The look at an update, where the record may be as adversarial again."""
        assert phase.selective_update is not None
        binding = bound_in(phase.selective_update.pipeline, self.space, reads)
        nothing_K = torch.zeros(binding.space.size, dtype=torch.float64)
        moment = dataclasses.replace(moment, released_D=nothing_K)
        states = begin(binding, phase.steps)
        name = f"{phase.name}, look"
        return self._shown(name, binding, self._releaser(binding), states, moment)

    def _shown(
        self, name: str, binding: BoundPipeline, releaser: Releaser, states: States, moment: Moment
    ) -> ReleasedStep:
        """One release of a pipeline, on the rows of a situation."""
        frame = binding.open(states, moment.clock, public_MD(binding.space.size, moment.done))
        bound = float(binding.bound(states))
        drawn = adversarial_rows(moment.situation, frame, bound, moment.done, moment.released_D)
        expected = expected_share(binding, states, bound, row_at_the_clipper(frame, drawn))
        g_BD = drawn.crowd_BD
        if moment.present or self.adjacency is Adjacency.REPLACE_ONE:
            own_D = drawn.record_D if moment.present else -drawn.record_D
            g_BD = torch.cat([g_BD, own_D[None]])
        release, states = releaser.release(states, frame, batch_of(binding, frame, g_BD))
        sigma = binding.pipeline.noiser.noise_multiplier
        return ReleasedStep(name, release, states, bound, sigma, *expected)

    def _releaser(self, binding: BoundPipeline) -> Releaser:
        return make_releaser(self.make, binding, self.noise)


def bound_in(pipeline: Pipeline, parameters: Space, earlier: Reads | None = None) -> BoundPipeline:
    """A pipeline in the space of its rows: that of the parameters, or of its statistic."""
    return BoundPipeline(pipeline, pipeline.row_space(parameters, SHAPE), earlier)


def begin(binding: BoundPipeline, steps: int) -> States:
    """The states at the start of a phase, at made-up weights."""
    space = binding.space
    weights_D = torch.linspace(-1.0, 2.0, space.size, dtype=torch.float64)
    return binding.begin(PhaseContext(space, weights_D, steps, 0, public_MD(space.size, -1)))


@cache
def public_MD(size: int, step: int) -> Tensor:
    """The gradients of some public records at a step."""
    generator = public_generator("public records", size, step)
    return torch.randn((PUBLIC, size), generator=generator, dtype=torch.float64)


def make_releaser(
    make: MakeReleaser, binding: BoundPipeline, noise: NoiseSource | None
) -> Releaser:
    """The releaser of a phase, with the margin that `DenseRows` needs."""
    error = 2 * RECORDS * UNIT_ROUNDOFF
    return make(binding, expected_batch=float(RECORDS), relative_error=error, noise=noise)


def batch_of(binding: BoundPipeline, frame: StepContext, g_BD: Tensor) -> list[Rows]:
    """What the kernel is given: nothing for a batch of no records."""
    return [DenseRows(frame.transform(g_BD), *binding.groups)] if len(g_BD) else []


def distance_of(adjacency: Adjacency) -> float:
    """Δ: how far two neighbouring sums are apart, in units of one record's share."""
    return 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
