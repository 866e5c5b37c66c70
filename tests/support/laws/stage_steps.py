"""What the tests of stages share: releases with chosen values, contexts, and whole phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache

import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    Driver,
    PhaseContext,
    Pipeline,
    Plan,
    Release,
    Released,
    ReproducibleNoise,
    Space,
    States,
    StepContext,
)
from dpigu.mechanisms import Gaussian, Unclipped
from torch import Tensor

SPACE = Space(("one.weight", "one.bias", "two.weight"), ((4, 3), (4,), (2, 4)))


@cache
def minted() -> Released:
    """A released value that a kernel made; others derive from it."""
    stages = Pipeline(clipper=Unclipped(), noiser=Gaussian(noise_multiplier=0.0))
    pipeline = BoundPipeline(stages, Space.flat("one", 1))
    states = pipeline.begin(context(Space.flat("one", 1)))
    driver = Driver(pipeline, expected_batch=1.0, relative_error=0.0, noise=ReproducibleNoise(0))
    release, _ = driver.open(states, Clock(0, 1)).release([])
    return release.gradient


def context(
    space: Space, weights_D: Tensor | None = None, steps: int = 1, seed: int = 0
) -> PhaseContext:
    """What a stage sees at the start of a phase; weights are zero unless given."""
    return PhaseContext(
        space, torch.zeros(space.size) if weights_D is None else weights_D, steps, seed
    )


def release_of(
    value_D: Tensor,
    variance_D: Tensor | None = None,
    support_D: Tensor | None = None,
    clock: Clock | None = None,
) -> Release:
    """A release of exactly these values, zero off the support, as the kernel makes it."""
    value_D = value_D.to(torch.float64)
    if variance_D is None:
        variance_D = torch.zeros_like(value_D)
    if support_D is None:
        support_D = torch.ones_like(value_D, dtype=torch.bool)
    gradient = minted().derive(
        torch.where(support_D, value_D, 0.0), torch.where(support_D, variance_D, 0.0)
    )
    return Release(
        gradient=gradient,
        noised=gradient,
        queries={},
        support_D=support_D,
        clock=clock if clock is not None else Clock(0, 1),
    )


def normal(*size: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal draws that a seed fixes."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def steps_of(
    plan: Plan,
    space: Space,
    rows: Callable[[int, StepContext], Tensor],
    *,
    noise_seed: int = 0,
    expected_batch: float = 4.0,
) -> Iterator[tuple[str, StepContext, Release, States]]:
    """Every step of a plan on gradients g_BD = rows(step, context): what opened, what came out."""
    earlier, noise, done = {}, ReproducibleNoise(noise_seed), 0
    for phase in plan.phases:
        here = phase.pipeline.row_space(space, (2, 3, 2))
        pipeline = BoundPipeline(phase.pipeline, here, earlier)
        public_MD = normal(4, space.size, seed=2)
        start = context(here, normal(space.size, seed=1), phase.steps)
        states = pipeline.begin(dataclasses.replace(start, public_MD=public_MD))
        driver = Driver(pipeline, expected_batch=expected_batch, relative_error=0.0, noise=noise)
        for i in range(phase.steps):
            step = driver.open(states, Clock(i, phase.steps), public_MD)
            release, states = step.release(step.dense(rows(done, step.context)))
            yield phase.name, step.context, release, states
            done += 1
        earlier = pipeline.views(states)
