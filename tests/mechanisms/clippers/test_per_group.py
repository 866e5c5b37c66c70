"""Per-group clipping: a bound for each group, and the joint bound that they make."""

from __future__ import annotations

import math

import pytest
import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    DenseRows,
    Driver,
    GrammarError,
    Pipeline,
    ReproducibleNoise,
)
from dpigu.dpcore.kernel import guarded_factors
from dpigu.mechanisms import Gaussian, PerGroup
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, normal

pytestmark = pytest.mark.numerical

GROUPINGS = ("parameter", "layer", "filter")
WEIGHTS = st.sampled_from(("equal", "dimension"))
BOUNDS = st.floats(1e-3, 1e3)


def started(stage):
    return stage.init(context(SPACE), {})


@pytest.mark.parametrize("groups", GROUPINGS)
@given(bound=BOUNDS, weights=WEIGHTS)
def test_the_groups_bounds_make_the_joint_bound(groups, bound, weights):
    bounds_G = started(PerGroup(bound=bound, groups=groups, weights=weights))["bounds_G"]
    assert len(bounds_G) == SPACE.group_count(groups)
    assert float(bounds_G.norm()) == pytest.approx(bound)


@given(BOUNDS, st.lists(st.floats(0.01, 100), min_size=3, max_size=3))
def test_bounds_of_your_own_are_weights(bound, own):
    """bound = √Σ C_G² and weights = (C_1, C_2, …) give exactly the C_G."""
    stage = PerGroup(bound=math.hypot(*own), groups="parameter", weights=tuple(own))
    assert started(stage)["bounds_G"].tolist() == pytest.approx(own)
    scaled = PerGroup(bound=bound, groups="parameter", weights=tuple(own))
    ratio = started(scaled)["bounds_G"] / torch.tensor(own).double()
    assert ratio.tolist() == pytest.approx([bound / math.hypot(*own)] * 3)


def test_equal_and_dimension_weights_are_the_formulas():
    """Blocks of 12, 4 and 8 coordinates, in two layers of 16 and 8."""
    assert started(PerGroup(bound=3.0))["bounds_G"].tolist() == pytest.approx([3 / 2**0.5] * 2)
    by_size = started(PerGroup(bound=1.0, groups="parameter", weights="dimension"))["bounds_G"]
    assert (by_size**2 * 24).tolist() == pytest.approx([12, 4, 8])


@given(st.integers(0, 1000), st.floats(0.01, 10.0), WEIGHTS)
def test_a_row_is_clipped_group_by_group_and_a_group_within_its_bound_stays(seed, size, weights):
    """Through the guard, which has nothing left to cap."""
    stage = PerGroup(bound=1.0, groups="parameter", weights=weights)
    state, groups_D = started(stage), SPACE.groups("parameter")
    z_BD = size * normal(4, SPACE.size, seed=seed) * (1 + 9 * (groups_D == 1))
    rows = DenseRows(z_BD, groups_D, 3)
    c_BG, _ = guarded_factors(stage, state, rows.norm_upper_bounds(), stage.joint_bound(state))
    for row_D, c_G in zip(z_BD, c_BG, strict=True):
        for g, bound in enumerate(state["bounds_G"].tolist()):
            before = float(row_D[groups_D == g].norm())
            assert float(c_G[g]) * before == pytest.approx(min(before, bound))


def test_a_loud_layer_leaves_the_others_alone_and_flat_clipping_does_not():
    stage, groups_D = PerGroup(bound=1.0), SPACE.groups("layer")
    z_D = torch.where(groups_D == 0, 1e6, 0.01).double()
    norms_G = torch.stack([z_D[groups_D == g].norm() for g in (0, 1)])
    assert stage.factors(started(stage), norms_G)[1] == 1.0
    assert 1.0 / float(z_D.norm()) < 1e-6


def test_noise_is_that_of_the_joint_bound_on_every_coordinate():
    """The released variance is (σC/B)² everywhere, whatever the split."""
    stages = Pipeline(
        clipper=PerGroup(bound=2.0, groups="parameter", weights=(1.0, 2.0, 3.0)),
        noiser=Gaussian(noise_multiplier=3.0),
    )
    pipeline = BoundPipeline(stages, SPACE)
    states = pipeline.begin(context(SPACE))
    driver = Driver(pipeline, expected_batch=4.0, relative_error=0.0, noise=ReproducibleNoise(0))
    release, _ = driver.open(states, Clock(0, 1)).release([])
    expected = torch.full((SPACE.size,), (3.0 * 2.0 / 4.0) ** 2).double()
    grid = 2.0**-20  # more than the noise's grid adds, 2 · 2⁻²⁶ σ √K of it
    torch.testing.assert_close(release.gradient.variance, expected, rtol=grid, atol=0.0)


def test_the_number_of_weights_is_the_number_of_groups():
    with pytest.raises(GrammarError, match=r"per-group\.weights.*got 2.*3, one a parameter"):
        started(PerGroup(groups="parameter", weights=(1.0, 2.0)))


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"bound": -1.0}, "per-group.bound"),
        ({"groups": "all"}, "per-group.groups"),
        ({"weights": ()}, "per-group.weights"),
        ({"weights": (1.0, 0.0)}, "per-group.weights"),
        ({"weights": "even"}, "per-group.weights"),
    ],
)
def test_an_option_out_of_range_is_named(options, where):
    with pytest.raises(GrammarError) as caught:
        PerGroup(**options)
    assert caught.value.where == where
