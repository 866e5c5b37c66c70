"""A short run and its trace: what a few steps of a plan release, with or without one record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from dpigu.audits.mechanism.adversary import Situation, adversarial_rows
from dpigu.audits.mechanism.expected import Answer, expected_share, row_at_the_clipper
from dpigu.dpcore import (
    Adjacency,
    BoundPipeline,
    Clock,
    DpiguError,
    Driver,
    MakeReleaser,
    NoiseSource,
    Phase,
    PhaseContext,
    Pipeline,
    Reads,
    Release,
    Space,
    States,
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
        beyond_D: the released gradient less what the posts make of the noised sum: zeros.
    """

    phase: str
    release: Release
    states: States
    bound: float
    sigma: float
    expected_K: Tensor
    answers: Mapping[str, Answer]
    beyond_D: Tensor


@dataclass(frozen=True)
class Trace:
    """One run of a short run; `stopped` if a step was refused, which is public."""

    steps: tuple[ReleasedStep, ...]
    stopped: bool = False


@dataclass(frozen=True)
class Leg:
    """Some steps of one phase, by number; from `start` if not the start."""

    phase: Phase
    steps: tuple[int, ...]
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
        turn: whether it is the record's turn to be in a batch.
    """

    situation: Situation
    present: bool
    clock: Clock
    done: int
    released_D: Tensor
    turn: bool = True


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
            driver = self.driver(phase.pipeline, earlier)
            pipeline = driver.pipeline
            states = leg.start if leg.start is not None else begin(pipeline, phase.steps)
            released_D = torch.zeros(pipeline.space.size, dtype=torch.float64)
            shown_before: list[ReleasedStep] = []
            for step in leg.steps:
                clock = Clock(step, phase.steps)
                turn = (step - leg.steps[0]) % phase.pipeline.bands == 0
                moment = Moment(situation, present, clock, done, released_D, turn)
                shown = self._shown(phase.name, driver, states, moment)
                shown_before.insert(0, shown)
                yield encoded(shown_before, phase)
                states = shown.states
                if phase.selective_update is not None:
                    yield self._decided(phase, pipeline.views(states), moment)
                released_D = released_D + shown.release.gradient.value
                done += 1
            earlier = pipeline.views(states)

    def _decided(self, phase: Phase, reads: Reads, moment: Moment) -> ReleasedStep:
        """The release of a selective update, where the record may be as adversarial again."""
        assert phase.selective_update is not None
        driver = self.driver(phase.selective_update.pipeline, reads)
        nothing_K = torch.zeros(driver.pipeline.space.size, dtype=torch.float64)
        moment = dataclasses.replace(moment, released_D=nothing_K)
        states = begin(driver.pipeline, phase.steps)
        return self._shown(f"{phase.name}, selective update", driver, states, moment)

    def _shown(self, name: str, driver: Driver, states: States, moment: Moment) -> ReleasedStep:
        """One release of a pipeline, on the rows of a situation."""
        pipeline = driver.pipeline
        step = driver.open(states, moment.clock, public_MD(pipeline.space.size, moment.done))
        drawn = adversarial_rows(
            moment.situation, step.context, step.bound, moment.done, moment.released_D
        )
        expected = expected_share(step, row_at_the_clipper(step.context, drawn))
        g_BD = drawn.crowd_BD
        if not moment.turn:
            expected = (torch.zeros_like(expected[0]), {})
        elif moment.present or self.adjacency is Adjacency.REPLACE_ONE:
            own_D = drawn.record_D if moment.present else -drawn.record_D
            g_BD = torch.cat([g_BD, own_D[None]])
        release, after = step.release(step.dense(g_BD))
        again_D = pipeline.post(states, release.noised).value
        beyond_D = release.gradient.value - torch.where(release.support_D, again_D, 0)
        sigma = pipeline.stages.noiser.noise_multiplier
        return ReleasedStep(name, release, after, step.bound, sigma, *expected, beyond_D)

    def driver(self, pipeline: Pipeline, earlier: Reads) -> Driver:
        """What drives a pipeline here, with the margin that dense rows need."""
        return Driver(
            BoundPipeline(pipeline, pipeline.row_space(self.space, SHAPE), earlier),
            expected_batch=float(RECORDS),
            relative_error=2 * RECORDS * UNIT_ROUNDOFF,
            noise=self.noise,
            make=self.make,
        )


def encoded(shown: Sequence[ReleasedStep], phase: Phase) -> ReleasedStep:
    """The last of some steps, first in the list, as the kernel released it: before decoding.

    y_t/L = Σ_k c_k x_{t−k}/L has independent noise of the clipping bound's scale, and one
    record's share of it is Σ_k c_k e_{t−k}/L; L is ‖c‖ where the turns of a record do not overlap.
    """
    last = shown[0]
    if phase.pipeline.factorisation is None:
        return last
    value_K = mixed(phase, [s.release.noised.value for s in shown])
    expected_K = mixed(phase, [s.expected_K for s in shown])
    noised = last.release.noised.derive(value_K, last.release.noised.variance)
    release = dataclasses.replace(last.release, noised=noised)
    return dataclasses.replace(last, release=release, expected_K=expected_K)


def mixed(phase: Phase, past: Sequence[Tensor]) -> Tensor:
    """Σ_k c_k x_{t−k}/L of a phase's factorisation; the last of `past` stands first.

    L² = Σ_t (Σ_j |c_{t−jb}|)²: what all turns of one record leave, one step in b.
    """
    assert phase.pipeline.factorisation is not None
    coefficients = phase.pipeline.factorisation.coefficients(phase.steps)
    column, met = torch.tensor(coefficients, dtype=torch.float64), torch.zeros(len(coefficients))
    for shift in range(0, len(column), phase.pipeline.bands):
        met = met + torch.cat([torch.zeros(shift), column.abs()])[: len(column)]
    parts = zip((column / met.norm()).tolist(), past, strict=False)
    total: Tensor = sum((c * x_K for c, x_K in parts), torch.zeros(()))
    return total


def begin(pipeline: BoundPipeline, steps: int) -> States:
    """The states at the start of a phase, at made-up weights."""
    space = pipeline.space
    weights_D = torch.linspace(-1.0, 2.0, space.size, dtype=torch.float64)
    return pipeline.begin(PhaseContext(space, weights_D, steps, 0, public_MD(space.size, -1)))


@cache
def public_MD(size: int, step: int) -> Tensor:
    """The gradients of some public records at a step."""
    generator = public_generator("public records", size, step)
    return torch.randn((PUBLIC, size), generator=generator, dtype=torch.float64)


def distance_of(adjacency: Adjacency) -> float:
    """Δ: how far two neighbouring sums are apart, in units of one record's share."""
    return 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
