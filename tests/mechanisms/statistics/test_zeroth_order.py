"""Zeroth order: the slope along a public direction, and the gradient that it stands for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dpigu.dpcore import Clock, GrammarError, Record, Space
from dpigu.mechanisms import ZerothOrder, dpsgd
from dpigu.mechanisms.presets.released import dp_zo
from dpigu.trainers import train
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.data import linear, points, settings_of
from tests.support.laws.stage_steps import context, normal, release_of

pytestmark = pytest.mark.numerical

SIZE = 5
SEEDS, STEPS = st.integers(0, 99), st.integers(0, 3)


def at(seed=0, step=0, stage=None):
    """The state at a step."""
    stage = stage if stage is not None else ZerothOrder()
    state = stage.init(context(Space.flat("slope", 1), torch.zeros(SIZE), seed=seed), {})
    for done in range(step):
        state = stage.update(state, release_of(torch.zeros(1), clock=Clock(done, 9)), {})
    return state


def law_the_row_is_the_slope_of_the_record_s_loss(seed, step):
    """Of a quadratic the central difference is exact: ⟨∇ℓ, u⟩."""
    stage, centre_D, weights_D = ZerothOrder(radius=0.1), normal(SIZE, seed=1), normal(SIZE, seed=2)
    state = at(seed, step, stage)

    def loss(at_D):
        return ((at_D - centre_D) ** 2).sum()

    nothing = torch.tensor(0.0)
    record = Record(nothing, nothing, loss, lambda: nothing, None, lambda: weights_D)
    want = (2 * (weights_D - centre_D) @ state["direction_D"])[None]
    torch.testing.assert_close(stage.row_of(state, record), want)


test_the_row_is_the_slope_of_the_record_s_loss = given(SEEDS, STEPS)(
    law_the_row_is_the_slope_of_the_record_s_loss
)


def test_a_direction_is_a_step_s_own_and_the_public_seed_s():
    taken = [at(seed, step)["direction_D"] for seed in (0, 1) for step in (0, 1, 2)]
    assert torch.equal(taken[0], at(0, 0)["direction_D"])
    assert all(not torch.equal(a, b) for i, a in enumerate(taken) for b in taken[:i])


def law_the_gradient_lies_along_the_direction_of_the_step_that_was_released(step):
    """z̃·u with u of that step, though the state is already the next one's; its variance v·u²."""
    stage, before = ZerothOrder(), at(0, step)
    one = torch.ones(1, dtype=torch.float64)
    release = release_of(3 * one, 0.25 * one, clock=Clock(step, 9))
    gradient = stage.gradient(stage.update(before, release, {}), release)
    torch.testing.assert_close(gradient.value, 3 * before["direction_D"])
    torch.testing.assert_close(gradient.variance, 0.25 * before["direction_D"] ** 2)


test_the_gradient_lies_along_the_direction_of_the_step_that_was_released = given(STEPS)(
    law_the_gradient_lies_along_the_direction_of_the_step_that_was_released
)


def test_many_directions_are_the_gradient_on_average():
    """E[⟨g, u⟩u] = g: 4,000 directions, each entry within five standard errors."""
    g_D, count = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0]).double(), 4000
    u_TD = torch.stack([at(s)["direction_D"] for s in range(count)])
    mean_D = ((u_TD @ g_D)[:, None] * u_TD).mean(0)
    error_D = ((g_D @ g_D + g_D**2) / count).sqrt()
    assert bool(((mean_D - g_D).abs() < 5 * error_D).all())


def held_out(model):
    data = points()
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(model(data.test_x), data.test_y))


def test_a_phase_of_it_trains_the_weights_and_costs_what_dpsgd_costs():
    model, settings = linear(), replace(settings_of(), learning_rate=0.05)
    before = held_out(model)
    run = train(dp_zo(60, bound=1.0), points(), model, settings, progress=False)
    assert held_out(model) < before
    same = train(dpsgd(60, bound=1.0), points(), linear(), settings, progress=False)
    assert run.summary["epsilon"] == same.summary["epsilon"]


def test_a_radius_is_above_0():
    with pytest.raises(GrammarError, match=r"zeroth-order\.radius"):
        ZerothOrder(radius=0.0)
