"""Adaptive bounds of groups: their step, their joint bound, and where they settle."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from dpigu.dpcore import GrammarError, Phase, Pipeline, Plan, View
from dpigu.mechanisms import BandedToeplitz, Gaussian, GroupCounts, GroupQuantile
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, minted, normal, release_of, steps_of

COUNT = SPACE.group_count("layer")
SHARES = st.lists(st.floats(-0.5, 1.5), min_size=COUNT, max_size=COUNT)
CHOSEN = {
    "shares": SHARES,
    "quantile": st.floats(0.05, 0.95),
    "rate": st.floats(0.01, 1.0),
    "bound": st.floats(1e-3, 1e3),
}


def told(shares):
    """A release in which these shares of the records were within the groups' bounds."""
    value_G = (torch.tensor(shares, dtype=torch.float64) - 0.5) / math.sqrt(len(shares))
    answer = minted().derive(value_G, torch.zeros_like(value_G))
    return replace(release_of(torch.zeros(SPACE.size)), queries={"group-counts": answer})


def law_a_step_moves_quantiles_and_never_the_joint_bound(shares, quantile, rate, bound):
    """q_G·exp(−η(b̃_G − γ)), b̃ in [0, 1]; C_G in proportion to q_G, √Σ C_G² = C."""
    stage = GroupQuantile(bound=bound, quantile=quantile, rate=rate)
    state = stage.update(stage.init(context(SPACE), {}), told(shares), {})
    a_G = [math.exp(-rate * (min(max(b, 0.0), 1.0) - quantile)) for b in shares]
    length = math.sqrt(sum(a * a for a in a_G))
    want_G = torch.tensor([bound * a / length for a in a_G], dtype=torch.float64)
    torch.testing.assert_close(state["bounds_G"], want_G)
    assert float(stage.joint_bound(state)) == bound


test_a_step_moves_quantiles_and_never_the_joint_bound = given(**CHOSEN)(
    law_a_step_moves_quantiles_and_never_the_joint_bound
)


@given(st.lists(st.floats(0, 1e3), min_size=COUNT, max_size=COUNT))
def test_the_query_says_in_which_groups_a_row_is_within_the_quantile(norms):
    stage = GroupQuantile()
    state = stage.init(context(SPACE), {})
    norms_G = torch.tensor(norms, dtype=torch.float64)
    q_G = GroupCounts().vector({}, norms_G, {"group-quantile": View(stage, state)})
    want_G = torch.where(norms_G <= state["quantiles_G"], 0.5, -0.5) / math.sqrt(COUNT)
    torch.testing.assert_close(q_G, want_G.double())


def test_quantiles_settle_at_the_medians_of_the_groups():
    """Rows ten times as long in one layer than in the others, whatever the joint bound: after 60
    steps with next to no noise, q_G is within 15% of the median norm there."""
    groups_D = SPACE.groups("layer")
    scale_D = torch.where(groups_D == 0, 10.0, 1.0)
    pipeline = Pipeline(
        clipper=GroupQuantile(bound=2.0),
        noiser=Gaussian(noise_multiplier=1e-3),
        queries=(GroupCounts(),),
    )

    def rows(step, _):
        return scale_D * normal(100, SPACE.size, seed=step).float()

    *_, last = steps_of(Plan((Phase("main", pipeline, 60),)), SPACE, rows, expected_batch=100.0)
    quantiles_G = last[-1]["group-quantile"]["quantiles_G"]
    shown_BD = scale_D * normal(2000, SPACE.size, seed=99)
    norms_BG = torch.stack([shown_BD[:, groups_D == g].norm(dim=1) for g in range(COUNT)], dim=1)
    assert quantiles_G.tolist() == pytest.approx(norms_BG.median(0).values.tolist(), rel=0.15)


def test_it_goes_with_correlated_noise_for_its_joint_bound_is_fixed():
    Pipeline(
        clipper=GroupQuantile(),
        noiser=Gaussian(),
        factorisation=BandedToeplitz(),
        queries=(GroupCounts(),),
    )


def test_without_its_query_it_is_refused():
    with pytest.raises(GrammarError, match="learns from a query that is not in the pipeline"):
        Pipeline(clipper=GroupQuantile(), noiser=Gaussian())


@pytest.mark.parametrize("option", ["bound", "quantile", "rate", "limit"])
def test_options_out_of_range_are_named(option):
    with pytest.raises(GrammarError, match=rf"group-quantile\.{option}"):
        GroupQuantile(**{option: 0.0})
