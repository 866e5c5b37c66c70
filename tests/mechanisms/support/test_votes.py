"""Every record has the same number of votes, of norm 1 together, and only released ones count."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import DenseRows, GrammarError, Phase, Pipeline, Plan, Record, Space
from dpigu.dpcore.kernel import guarded_factors
from dpigu.mechanisms import Flat, Gaussian, TopK, Unclipped
from dpigu.mechanisms.support.schedulers import kept
from dpigu.mechanisms.support.votes import TopVotes, VoteCount
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, normal, release_of, steps_of

RATIOS = st.integers(1, 100).map(lambda percent: percent / 100)
VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


def voted(stage, g_D):
    """The row of a record with this gradient."""
    nothing = torch.zeros(())
    return stage.row_of({}, Record(nothing, nothing, lambda at_D: nothing, lambda: g_D))


@given(VALUES, RATIOS, st.sampled_from((torch.float32, torch.float64)))
def test_a_record_votes_for_its_k_largest_coordinates(values, ratio, dtype):
    """Small integers, so that there are ties and zeros."""
    g_D = torch.tensor(values, dtype=dtype)
    z_D, count = voted(TopVotes(ratio=ratio), g_D), kept(ratio, len(values))
    chosen_D = z_D != 0
    assert z_D.dtype == dtype and int(chosen_D.sum()) == count
    if count < len(values):
        assert float(g_D.abs()[chosen_D].min()) >= float(g_D.abs()[~chosen_D].max())


@given(st.integers(1, 60), RATIOS, st.sampled_from((0.0, 1e-30, 1.0, 1e30)), st.integers(0, 99))
def test_votes_have_norm_one_whatever_the_gradient_and_a_bound_of_one_clips_nothing(
    size, ratio, scale, seed
):
    g_BD = scale * normal(3, size, seed=seed, dtype=torch.float32)
    stage, clipper = TopVotes(ratio=ratio), Flat(bound=1.0)
    z_BD = torch.func.vmap(lambda g_D: voted(stage, g_D))(g_BD)
    torch.testing.assert_close(z_BD.norm(dim=1), torch.ones(3))
    norms_BG = DenseRows(z_BD).norm_upper_bounds()
    c_BG, _ = guarded_factors(clipper, {}, norms_BG, clipper.joint_bound({}))
    torch.testing.assert_close(c_BG, torch.ones_like(c_BG))


@given(st.integers(0, 99))
def test_the_count_is_the_sum_of_released_votes_with_its_sign(seed):
    """A coordinate whose noise is far below 0 is the last, and not among the first."""
    scorer, released_TD = VoteCount(), normal(3, SPACE.size, seed=seed)
    state = scorer.init(context(SPACE), {})
    for value_D in released_TD:
        state = scorer.update(state, release_of(value_D), {})
    torch.testing.assert_close(scorer.score(state), released_TD.sum(0))
    assert bool((scorer.score(state) < 0).any())


def test_the_next_phase_trains_the_coordinates_that_most_records_voted_for():
    """Without noise, and with records whose gradients are largest in the second block."""
    votes = Pipeline(
        clipper=Unclipped(),
        noiser=Gaussian(noise_multiplier=0.0),
        statistic=TopVotes(ratio=0.25),
        scorer=VoteCount(),
    )
    main = Pipeline(
        clipper=Unclipped(),
        noiser=Gaussian(noise_multiplier=0.0),
        scheduler=TopK(ratio=0.125, reads=("vote-count",)),
    )
    plan = Plan((Phase("votes", votes, 2), Phase("main", main, 1)))
    weight_D = torch.ones(SPACE.size)
    weight_D[12:15] = 100.0

    def rows(step, context):
        g_BD = weight_D * normal(6, SPACE.size, seed=step, dtype=torch.float32).sign()
        if context.transform.statistic is None:
            return g_BD
        statistic, _ = context.transform.statistic
        return torch.func.vmap(lambda g_D: voted(statistic, g_D))(g_BD)

    *_, (_, context, release, _) = steps_of(plan, SPACE, rows)
    assert context.support_D.nonzero().squeeze(1).tolist() == [12, 13, 14]
    assert bool((release.gradient.value[:12] == 0).all())


def test_votes_live_in_the_parameters_space_and_fit_no_buffer():
    stage = TopVotes()
    assert stage.row_space(SPACE, (1, 8, 8)) == SPACE
    assert stage.fitted({"mean": torch.zeros(1)}, release_of(torch.zeros(2))) == {}


def test_a_ratio_out_of_range_is_named():
    with pytest.raises(GrammarError, match=r"top-votes\.ratio"):
        TopVotes(ratio=0.0)
    assert TopVotes(ratio=1.0).row_space(Space.flat("g", 3), ()).size == 3
