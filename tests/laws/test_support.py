"""Support: noise is drawn on it and only there; what is frozen stays where it is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from dpigu.dpcore import BoundPipeline, Clock, Phase, PhaseContext, Pipeline, Plan, Space, States
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms import Coherent, Flat, Gaussian, Random, TopK
from dpigu.trainers.engines import trainable
from dpigu.trainers.settings import masked_step
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.laws.noise.noise_words import Ones, with_ones
from tests.support.laws.strategies import Opened, batches, opened, registered, stages, steps
from tests.support.zoo.wild_stages import Shifted

pytestmark = pytest.mark.numerical


def law_noise_on_the_support_and_only_there(here: Opened, g_BD: Tensor) -> None:
    """Noise of one deviation moves the sum by it on the support, bit for bit; off it all is 0."""
    kernel = here.kernel(noise=Ones())
    release, _ = kernel.release(here.states, here.context, here.pieces(g_BD, 3))
    total, pipeline = kernel.bounded[0], here.pipeline.stages
    at_home = here.pipeline.output == here.pipeline.space
    live_K = here.context.support_D if at_home else torch.ones_like(total.value, dtype=torch.bool)
    multiplier, sensitivity = pipeline.noiser.noise_multiplier, float(total.sensitivity)
    noised_K, std = with_ones(pipeline.noiser.law, total.value, sensitivity, multiplier)
    assert torch.equal(release.noised.value, torch.where(live_K, noised_K / 4.0, 0.0))
    variance_K = torch.full_like(noised_K, (std / 4.0) ** 2)
    assert torch.equal(release.noised.variance, torch.where(live_K, variance_K, 0.0))
    frozen_D = ~here.context.support_D
    assert not release.gradient.value[frozen_D].any()
    assert not release.gradient.variance[frozen_D].any()


@given(here=steps(), g_BD=batches())
def test_noise_on_the_support_and_only_there(here: Opened, g_BD: Tensor) -> None:
    law_noise_on_the_support_and_only_there(here, g_BD)


def law_frozen_coordinates_spend_no_budget(here: Opened, g_BD: Tensor) -> None:
    """A row is exactly 0 off the support, after every map that stays in the parameters' space."""
    if here.pipeline.output == here.pipeline.space:
        z_BK = here.context.transform(g_BD)
        assert not z_BK[:, ~here.context.support_D].any()


@given(here=steps(wild=True), g_BD=batches())
def test_frozen_coordinates_spend_no_budget(here: Opened, g_BD: Tensor) -> None:
    law_frozen_coordinates_spend_no_budget(here, g_BD)


def supports(scheduler: Any, size: int, length: int, seed: int) -> list[Tensor]:
    """A scheduler's support at every step of a phase."""
    stages = Pipeline(
        Flat(bound=1.0), Gaussian(), scorer=Random(), scheduler=scheduler, rows=(Shifted(),)
    )
    pipeline = BoundPipeline(stages, Space.flat("all", size))
    states: States = pipeline.begin(PhaseContext(pipeline.space, torch.zeros(size), length, seed))
    clocks = [Clock(step, length) for step in range(length)]
    return [pipeline.open(states, clock).support_D for clock in clocks]


def law_schedulers_are_as_declared(scheduler: Any, size: int, length: int, seed: int) -> None:
    """Never empty; monotone ones lose nothing; one that is not live is constant."""
    found = supports(scheduler, size, length, seed)
    for support_D in found:
        assert support_D.dtype == torch.bool and support_D.shape == (size,)
        assert bool(support_D.any())
    for before, after in pairwise(found):
        if scheduler.monotone:
            assert not bool((before & ~after).any())
        if not scheduler.live:
            assert torch.equal(before, after)


def law_a_live_scheduler_moves(scheduler: Any, seed: int) -> None:
    """Over a phase with room to move (400 coordinates, 40 steps) a live schedule changes the
    support; the paper's released code never did."""
    found = supports(scheduler, 400, 40, seed)
    moves = any(not torch.equal(found[0], later) for later in found[1:])
    assert moves == scheduler.live


@given(
    scheduler=stages("scheduler"),
    size=st.integers(1, 40),
    length=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_schedulers_are_as_declared(scheduler: Any, size: int, length: int, seed: int) -> None:
    law_schedulers_are_as_declared(scheduler, size, length, seed)


@pytest.mark.parametrize("cls", registered("scheduler"), ids=name_of)
@given(seed=st.integers(0, 99))
def test_a_live_scheduler_moves(cls: type, seed: int) -> None:
    """With its default options; others may leave it no room."""
    law_a_live_scheduler_moves(cls(), seed)


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
}


def law_frozen_weights_stay(scheduler: Any, optimizer: str, seed: int) -> None:
    """A weight moves only at steps at which it is live, whatever the optimizer remembers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    parameters, space = dict(model.named_parameters()), Space.of(trainable(model))
    made = OPTIMIZERS[optimizer](list(parameters.values()))
    stages = Pipeline(Flat(bound=1.0), Gaussian(), scorer=Random(), scheduler=scheduler)
    pipeline = BoundPipeline(stages, space)
    states = pipeline.begin(PhaseContext(space, torch.zeros(space.size), 4, seed))
    for step in range(4):
        here = Opened(pipeline, states, pipeline.open(states, Clock(step, 4)))
        release, states = here.kernel().release(states, here.context, [])
        before_D = space.join({n: p.detach() for n, p in parameters.items()}).clone()
        masked_step(made, parameters, space, release)
        moved_D = space.join({n: p.detach() for n, p in parameters.items()}) != before_D
        assert not bool((moved_D & ~release.support_D).any())
        assert bool((moved_D & release.support_D).any())


@given(
    scheduler=stages("scheduler"),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    seed=st.integers(0, 99),
)
def test_frozen_weights_stay(scheduler: Any, optimizer: str, seed: int) -> None:
    law_frozen_weights_stay(scheduler, optimizer, seed)


def test_the_plan_resolves_supports_across_phases() -> None:
    """A later phase's support is the ranking that the earlier phase's releases taught."""
    first = Pipeline(Flat(bound=1.0), Gaussian(), scorer=Coherent())
    second = Pipeline(Flat(bound=1.0), Gaussian(), scheduler=TopK(ratio=0.25))
    here = opened(Plan((Phase("a", first, 2), Phase("b", second, 3))))
    total_D = here.pipeline.views({})["scorer"].state["total_D"]
    want_D = torch.zeros(24, dtype=torch.bool).scatter(0, total_D.abs().topk(6).indices, True)
    assert torch.equal(here.context.support_D, want_D)
