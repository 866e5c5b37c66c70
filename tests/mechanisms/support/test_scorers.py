"""Scores are what their formulas say, from released values and public ones only."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dpigu.dpcore import Clock, GrammarError, Space
from dpigu.dpcore.grammar.stages import public_records_of
from dpigu.mechanisms import (
    Coherent,
    MeanAbsolute,
    PublicEnergy,
    Random,
    SignalEnergy,
    WeightMagnitude,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, normal, release_of

pytestmark = pytest.mark.numerical

LEARNT = [MeanAbsolute(), Coherent()]
FIXED = [Random(), WeightMagnitude()]
SEEDS = st.lists(st.integers(0, 10_000), min_size=1, max_size=6)


def after(scorer, gradients, space=SPACE):
    state = scorer.init(context(space), {})
    for g_D in gradients:
        state = scorer.update(state, release_of(g_D), {})
    return state


def gradients(seeds):
    return [normal(SPACE.size, seed=seed) for seed in seeds]


@given(SEEDS)
def test_mean_abs_is_the_mean_size_of_what_was_released(seeds):
    g_TD = torch.stack(gradients(seeds))
    score_D = MeanAbsolute().score(after(MeanAbsolute(), g_TD))
    torch.testing.assert_close(score_D, g_TD.abs().mean(0))


@given(SEEDS)
def test_coherent_is_the_size_of_the_sum_of_what_was_released(seeds):
    g_TD = torch.stack(gradients(seeds))
    torch.testing.assert_close(Coherent().score(after(Coherent(), g_TD)), g_TD.sum(0).abs())


def law_signal_energy_is_the_mean_square_less_the_noise(seeds, noise):
    state = SignalEnergy().init(context(SPACE), {})
    for g_D in gradients(seeds):
        state = SignalEnergy().update(state, release_of(g_D, torch.full_like(g_D, noise)), {})
    want_D = torch.stack(gradients(seeds)).square().mean(0) - noise
    torch.testing.assert_close(SignalEnergy().score(state), want_D)


test_signal_energy_is_the_mean_square_less_the_noise = given(SEEDS, st.floats(0.0, 3.0))(
    law_signal_energy_is_the_mean_square_less_the_noise
)


@pytest.mark.parametrize("scorer", LEARNT)
@given(first=SEEDS, second=SEEDS)
def test_learning_is_additive(scorer, first, second):
    """The state after two runs of steps is the sum of the states after each."""
    a, b = after(scorer, gradients(first)), after(scorer, gradients(second))
    both = after(scorer, gradients(first + second))
    for key in both:
        torch.testing.assert_close(both[key], a[key] + b[key])


@pytest.mark.parametrize("scorer", LEARNT)
@given(seeds=SEEDS, exponent=st.integers(-20, 20))
def test_scores_scale_with_the_gradient(scorer, seeds, exponent):
    """Powers of two, so that equality is exact."""
    score_D = scorer.score(after(scorer, gradients(seeds)))
    scaled_D = scorer.score(after(scorer, [-(2.0**exponent) * g for g in gradients(seeds)]))
    assert torch.equal(scaled_D, 2.0**exponent * score_D)


def test_coherent_prefers_a_steady_coordinate_to_a_loud_one_and_mean_abs_does_not():
    steady, loud = 0.5, 1.0
    g_TD = [torch.tensor([steady, loud * (-1) ** t]) for t in range(10)]
    pair = Space.flat("pair", 2)
    assert Coherent().score(after(Coherent(), g_TD, pair)).argmax() == 0
    assert MeanAbsolute().score(after(MeanAbsolute(), g_TD, pair)).argmax() == 1


@pytest.mark.parametrize("scorer", FIXED)
def test_a_fixed_score_is_not_changed_by_what_is_released(scorer):
    state = scorer.init(context(SPACE, normal(SPACE.size, seed=3)), {})
    later = scorer.update(state, release_of(normal(SPACE.size, seed=4)), {})
    assert torch.equal(scorer.score(state), scorer.score(later))


def test_random_scores_follow_the_public_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (Random().init(context(SPACE, seed=s), {})["score_D"] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_weight_magnitude_is_the_size_of_the_weights():
    weights_D = normal(SPACE.size, seed=5, dtype=torch.float32)
    state = WeightMagnitude().init(context(SPACE, weights_D), {})
    assert torch.equal(WeightMagnitude().score(state), weights_D.double().abs())


def law_public_energy_is_the_mean_square_of_public_gradients(seeds):
    g_MD = torch.stack(gradients(seeds))
    shown = dataclasses.replace(context(SPACE), public_MD=g_MD)
    state = PublicEnergy().init(shown, {})
    later = PublicEnergy().update(state, release_of(normal(SPACE.size, seed=4)), {})
    torch.testing.assert_close(PublicEnergy().score(later), g_MD.square().sum(0) / len(g_MD))


test_public_energy_is_the_mean_square_of_public_gradients = given(SEEDS)(
    law_public_energy_is_the_mean_square_of_public_gradients
)


def test_public_energy_wants_its_records_before_the_first_step_and_says_if_there_are_none():
    scorer = PublicEnergy(public_records=7)
    assert public_records_of(scorer) == 7
    assert all(public_records_of(scorer, Clock(step, 3)) == 0 for step in range(3))
    with pytest.raises(GrammarError, match="no public gradients to score by"):
        scorer.init(context(SPACE), {})


def test_no_state_shares_memory_with_the_weights():
    """Or the optimizer's step would change a score behind the kernel's back."""
    weights_D = normal(SPACE.size, seed=6)
    state = WeightMagnitude().init(context(SPACE, weights_D), {})
    before_D = state["score_D"].clone()
    weights_D.zero_()
    assert torch.equal(state["score_D"], before_D)
