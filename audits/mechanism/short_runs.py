"""Which short runs a plan is audited on, and what its event allows them.

At rate 1 every record is in every step, so that a short run of k_p steps of each phase p is the
composition of its releases, and nothing is amplified.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from dp_accounting import ComposedDpEvent
from dpigu.accountants.events import flatten
from dpigu.audits.mechanism.traces import (
    RECORDS,
    Leg,
    ShortRun,
    begin,
    distance_of,
    public_MD,
)
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    MakeReleaser,
    NoiseSource,
    Phase,
    Plan,
    PoissonSampler,
    Reads,
    Space,
    States,
)

WARM = 48
"""Steps that a phase has behind it, at most, where a short run begins in its middle."""


def short_runs(
    plan: Plan, space: Space, make: MakeReleaser, noise: NoiseSource | None
) -> tuple[ShortRun, ...]:
    """The short runs on which a plan is audited.

    The first begins at the beginning and takes two steps of every phase, shortened to two (so
    that a schedule comes to its end). Then every phase of more than three steps takes three at
    its own length, after `WARM` steps (or all but three) on made-up rows: two of its middle and
    its last. So what is done now and then, such as a refresh every 50 steps, at one length of a
    phase alone, or at its end, is seen too. Where noise is correlated across steps, a period
    stands for two steps and for three: a record joins its first; where turns overlap, so many
    steps that it joins two.
    """
    plan = dataclasses.replace(plan, phases=tuple(_at_rate_1(phase) for phase in plan.phases))
    short = tuple(dataclasses.replace(phase, steps=_taken(phase, 2)) for phase in plan.phases)
    legs = tuple(Leg(phase, tuple(range(phase.steps))) for phase in short)
    mu = allowed_mu(plan, tuple(phase.steps for phase in short))
    whole = ShortRun("two steps of every phase", legs, mu, plan.adjacency, space, make, noise)
    start = begin(whole.driver(short[0].pipeline, {}).pipeline, short[0].steps)
    begun = dataclasses.replace(legs[0], start=start)
    whole = dataclasses.replace(whole, legs=(begun, *legs[1:]))
    return whole, *_middles(plan, whole)


def _middles(plan: Plan, whole: ShortRun) -> Iterator[ShortRun]:
    """Three steps of every phase that has more, or a period, at its own length."""
    earlier: Reads = {}
    for i, phase in enumerate(plan.phases):
        taken = _taken(phase, 3)
        if phase.steps > taken:
            first = min(phase.steps - taken, WARM)
            _, states = _warmed(phase, first, earlier, whole)
            last = phase.steps - 1 if phase.period == 1 else first + taken - 1
            steps = (*range(first, first + taken - 1), last)
            charged = tuple(taken if j == i else 0 for j in range(len(plan.phases)))
            yield dataclasses.replace(
                whole,
                name=f"{taken} steps of the phase {phase.name!r}, from {first} to {last}",
                legs=(Leg(phase, steps, states),),
                mu=allowed_mu(plan, charged),
                earlier=earlier,
            )
        if phase is not plan.phases[-1]:
            pipeline, states = _warmed(phase, min(phase.steps, WARM), earlier, whole)
            earlier = pipeline.views(states)


def allowed_mu(plan: Plan, charged: tuple[int, ...]) -> float:
    """μ of the event of so many steps of each phase at rate 1, a composition of Gaussians: where
    records take turns, at every turn."""
    events = []
    for phase, steps in zip(plan.phases, charged, strict=True):
        always = PoissonSampler(1 / phase.pipeline.bands, RECORDS)
        events += [phase.event(always)] * math.ceil(steps / phase.period)
    terms = flatten(ComposedDpEvent(events))
    return distance_of(plan.adjacency) * math.sqrt(
        math.fsum(t.count / t.noise_multiplier**2 for t in terms)
    )


def _taken(phase: Phase, steps: int) -> int:
    """How many steps stand for so many: where noise is correlated, as many as a record has for one
    turn, and where turns overlap the next one too."""
    if phase.period == 1:
        return steps
    turns = phase.pipeline.bands
    return min(phase.steps, max(steps, turns + 1)) if phase.pipeline.endless else turns


def _at_rate_1(phase: Phase) -> Phase:
    """A phase whose selective update, if any, is at the rate of its steps."""
    if (selective := phase.selective_update) is None:
        return phase
    return dataclasses.replace(
        phase, selective_update=dataclasses.replace(selective, rate=None, share=1.0)
    )


def _warmed(
    phase: Phase, steps: int, earlier: Reads, short_run: ShortRun
) -> tuple[BoundPipeline, States]:
    """A phase after some steps on a batch that changes sign, short in the first layers."""
    driver = short_run.driver(phase.pipeline, earlier)
    pipeline, size = driver.pipeline, driver.pipeline.space.size
    states = begin(pipeline, phase.steps)
    ramp_D = torch.linspace(0.05, 1.0, size)
    for done in range(steps):
        step = driver.open(states, Clock(done, phase.steps), public_MD(size, done))
        g_D = (1 - 2 * (done % 2)) * step.bound * ramp_D / ramp_D.norm()
        _, states = step.release(step.dense(g_D.expand(RECORDS, -1)))
    return pipeline, states
