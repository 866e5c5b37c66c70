"""The sharpness point: a step uphill along what was released, and nothing else."""

from __future__ import annotations

import dp_accounting
import pytest
import torch
from dpigu.dpcore import GrammarError, Phase, Pipeline, Plan, PoissonSampler
from dpigu.mechanisms import Flat, Gaussian, Sharpness
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, normal, release_of

pytestmark = pytest.mark.numerical

LIVE_D = torch.ones(SPACE.size, dtype=torch.bool)


def moved(stage, gradients, weights_D):
    """How far the gradient's point is from the weights after these releases."""
    state = stage.init(context(SPACE), {})
    for g_D in gradients:
        state = stage.update(state, release_of(g_D), {})
    return stage.at(state, weights_D, LIVE_D) - weights_D


@given(st.integers(0, 1000), st.floats(1e-3, 10), st.integers(-100, 100))
def test_the_step_has_length_rho_along_the_last_release_whatever_its_size(seed, radius, exponent):
    """θ + ρ·ĝ/‖ĝ‖ (arXiv 2306.05651, Algorithm 1); older releases leave no trace."""
    weights_D, g_D = torch.zeros(SPACE.size).double(), normal(SPACE.size, seed=seed)
    step_D = moved(Sharpness(radius=radius), [-g_D, 2.0**exponent * g_D], weights_D)
    torch.testing.assert_close(step_D, radius * g_D / g_D.norm())


def test_the_first_step_and_one_after_a_zero_gradient_are_taken_at_the_weights():
    weights_D, zero_D = normal(SPACE.size, seed=1), torch.zeros(SPACE.size)
    for gradients in ([], [zero_D], [normal(SPACE.size, seed=2), zero_D]):
        assert bool((moved(Sharpness(), gradients, weights_D) == 0).all())


def test_a_small_step_goes_uphill():
    """On ½‖θ‖²_A the loss at the point is above that at the weights, to first order by ρ‖∇‖."""
    curve_D, weights_D = normal(SPACE.size, seed=3).exp(), normal(SPACE.size, seed=4)

    def loss(at_D):
        return float((curve_D * at_D**2).sum() / 2)

    gradient_D = curve_D * weights_D
    step_D = moved(Sharpness(radius=1e-4), [gradient_D], weights_D)
    rise = loss(weights_D + step_D) - loss(weights_D)
    assert rise == pytest.approx(1e-4 * float(gradient_D.norm()), rel=0.01)


def test_it_costs_nothing():
    """The event is that of the same plan without it."""
    sampler = PoissonSampler(0.1, 1000)
    plain, sharp = (
        Plan((Phase("main", Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), point=p), 7),))
        for p in (None, Sharpness())
    )
    assert isinstance(plain.event(sampler), dp_accounting.DpEvent)
    assert sharp.event(sampler) == plain.event(sampler)


def test_a_radius_out_of_range_is_named():
    with pytest.raises(GrammarError, match=r"sharpness\.radius"):
        Sharpness(radius=0.0)
