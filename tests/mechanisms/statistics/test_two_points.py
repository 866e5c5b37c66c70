"""DiSK: two gradients a record, weighted before the clip, and the filter that takes them up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dpigu.dpcore import GrammarError, Phase, Pipeline, Plan, Record
from dpigu.mechanisms import Flat, Gaussian, LinearUnfreeze, TopK, TwoPoints, WeightMagnitude
from dpigu.mechanisms.presets.released import disk
from dpigu.trainers import Session, train
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.data import linear, points, settings_of
from tests.support.laws.stage_steps import SPACE, context, normal, release_of

pytestmark = pytest.mark.numerical

DRAWN = {
    "seed": st.integers(0, 99),
    "gain": st.floats(0.1, 1.0),
    "ahead": st.floats(0.1, 2.0),
}


def law_the_row_is_the_weighted_gradient_at_both_points(seed, gain, ahead):
    """Of ½ θᵀHθ: H θ + (1 − κ)/κ · H(θ_t − θ_{t−1}), whatever γ."""
    stage, size = TwoPoints(gain=gain, ahead=ahead), SPACE.size
    half_DD = normal(size, size, seed=seed)
    h_DD, past_D, here_D = half_DD @ half_DD.T, normal(size, seed=1), normal(size, seed=2)
    state = stage.update(
        stage.init(context(SPACE), {}), replace(release_of(here_D), weights_D=past_D), {}
    )
    nothing = torch.tensor(0.0)
    record = Record(
        nothing,
        nothing,
        lambda at_D: at_D @ h_DD @ at_D / 2,
        lambda: nothing,
        None,
        lambda: here_D,
    )
    want_D = h_DD @ here_D + (1 - gain) / gain * (h_DD @ (here_D - past_D))
    got_D = stage.row_of(state, record)
    torch.testing.assert_close(got_D, want_D, rtol=1e-7, atol=1e-7 * float(want_D.abs().max()))


test_the_row_is_the_weighted_gradient_at_both_points = given(**DRAWN)(
    law_the_row_is_the_weighted_gradient_at_both_points
)


def test_before_the_first_step_both_points_are_one():
    stage, weights_D = TwoPoints(), normal(SPACE.size, seed=3)
    state = stage.init(context(SPACE, weights_D), {})
    assert torch.equal(state["past_D"], weights_D)


def test_in_a_run_the_past_is_where_the_step_before_stood():
    """The weights move by an optimizer that the stage knows nothing of."""
    settings = replace(settings_of(), learning_rate=0.3)
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), statistic=TwoPoints())
    model, seen = linear(), []
    with Session(Plan((Phase("main", pipeline, 3),)), points(), model, settings) as session:
        for step in session:
            stood_D = torch.cat([p.detach().flatten() for p in model.parameters()])
            assert torch.equal(step.release.weights_D, stood_D)
            seen.append(stood_D.clone())
            step.apply()
    assert not torch.equal(seen[0], seen[1])


def test_frozen_weights_stay_and_it_costs_what_dpsgd_costs():
    """It trains what AdaDPIGU's mask leaves live, and nothing else."""
    model = linear()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    stages = {"clipper": Flat(bound=1.0), "noiser": Gaussian(), "statistic": TwoPoints()}
    masked = Pipeline(scorer=WeightMagnitude(), scheduler=TopK(ratio=0.5), **stages)
    train(Plan((Phase("main", masked, 4),)), points(), model, settings_of(), progress=False)
    moved = torch.cat([(p != before[n]).flatten() for n, p in model.named_parameters()])
    assert int(moved.sum()) == len(moved) // 2
    Pipeline(scorer=WeightMagnitude(), scheduler=LinearUnfreeze(), **stages)


def test_the_preset_filters_what_it_measures():
    (phase,) = disk(10, gain=0.6).phases
    (post,) = phase.pipeline.posts
    assert post.feedback == pytest.approx((-0.4,)) and post.feedforward == (0.6,)


@pytest.mark.parametrize("option", ["gain", "ahead"])
def test_options_out_of_range_are_named(option):
    with pytest.raises(GrammarError, match=rf"two-points\.{option}"):
        TwoPoints(**{option: 0.0})
