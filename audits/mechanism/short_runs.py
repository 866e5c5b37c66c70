"""Which short runs a plan is audited on, and what its event allows them.

At rate 1 every record is in every step, so that a short run of k_p steps of each phase p is the
composition of its releases, and nothing is amplified.
"""

from __future__ import annotations

import dataclasses
import math

import torch
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
    that a schedule comes to its end). The second takes three steps in the middle of the last
    phase at its own length, after `WARM` steps (or all but three) on made-up rows, so that
    what stages do now and then, such as a refresh every 50 steps, is seen too.
    """
    plan = dataclasses.replace(plan, phases=tuple(_at_rate_1(phase) for phase in plan.phases))
    short = tuple(dataclasses.replace(phase, steps=2) for phase in plan.phases)
    legs = tuple(Leg(phase, 2) for phase in short)
    mu = allowed_mu(plan, (2,) * len(short))
    whole = ShortRun("two steps of every phase", legs, mu, plan.adjacency, space, make, noise)
    start = begin(whole.driver(short[0].pipeline, {}).pipeline, 2)
    begun = dataclasses.replace(legs[0], start=start)
    whole = dataclasses.replace(whole, legs=(begun, *legs[1:]))
    last = plan.phases[-1]
    if last.steps <= 3:
        return (whole,)
    earlier: Reads = {}
    for phase in plan.phases[:-1]:
        pipeline, states = _warmed(phase, min(phase.steps, WARM), earlier, whole)
        earlier = pipeline.views(states)
    first = min(last.steps - 3, WARM)
    _, states = _warmed(last, first, earlier, whole)
    middle = dataclasses.replace(
        whole,
        name=f"three steps of the phase {last.name!r} after step {first}",
        legs=(Leg(last, 3, first, states),),
        mu=allowed_mu(plan, (0,) * (len(short) - 1) + (3,)),
        earlier=earlier,
    )
    return whole, middle


def allowed_mu(plan: Plan, charged: tuple[int, ...]) -> float:
    """μ of the event of so many steps of each phase at rate 1, a composition of Gaussians."""
    terms = flatten(plan.event(PoissonSampler(1.0, RECORDS), charged))
    return distance_of(plan.adjacency) * math.sqrt(
        math.fsum(t.count / t.noise_multiplier**2 for t in terms)
    )


def _at_rate_1(phase: Phase) -> Phase:
    """A phase whose selective update, if any, is at the rate of its steps."""
    if (selective := phase.selective_update) is None:
        return phase
    return dataclasses.replace(phase, selective_update=dataclasses.replace(selective, rate=None))


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
