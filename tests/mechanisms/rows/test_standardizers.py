"""The paper's standardizer and the restorer that inverts it."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import GrammarError, Phase, Pipeline, Plan, Space, View
from dpigu.mechanisms import (
    AffineRestorer,
    EmaStandardizer,
    Flat,
    Gaussian,
    GroupStandardizer,
    RowTopK,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, minted, normal, release_of, steps_of

pytestmark = pytest.mark.numerical

STANDARDIZERS = [
    EmaStandardizer(),
    EmaStandardizer(gamma1=0.5, gamma2=0.5, mu=0.1),
    GroupStandardizer(grouping="filter", refresh=1, certainty=0.0),
]
EPS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
STEPS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(-10, 10), st.integers(0, 1000)), max_size=8
)


def reached(stage, steps):
    """The state after released gradients of many sizes on random supports."""
    state = stage.init(context(SPACE), {})
    for seed, exponent, support_seed in steps:
        support_D = normal(SPACE.size, seed=support_seed) > -0.5
        g_D = 2.0**exponent * normal(SPACE.size, seed=seed)
        state = stage.update(state, release_of(g_D, 0.01 * g_D**2, support_D), {})
    return state


@pytest.mark.parametrize("stage", STANDARDIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_the_row_is_the_affine_map_it_declares(stage, dtype, steps, seed):
    """Equal to a few units of rounding of the two terms, in the row's own dtype."""
    state, g_D = reached(stage, steps), normal(SPACE.size, seed=seed, dtype=dtype)
    weight_D, shift_D = stage.affine(state).dense()
    z_D, exact_D = stage.row(state, g_D), weight_D * g_D.double() - shift_D
    assert z_D.dtype == dtype
    scale_D = (weight_D * g_D.double()).abs() + shift_D.abs()
    assert bool(((z_D.double() - exact_D).abs() <= 4 * EPS[dtype] * scale_D).all())
    assert bool((weight_D > 0).all())


@pytest.mark.parametrize("stage", STANDARDIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_restoring_inverts_standardizing(stage, dtype, steps, seed):
    """restore(row(g)) = g to rounding, relative to |g| + |α|, in every state that is reached."""
    state, g_D = reached(stage, steps), normal(SPACE.size, seed=seed, dtype=dtype)
    weight_D, shift_D = stage.affine(state).dense()
    restored = restore(stage, state, stage.row(state, g_D).double(), weight_D**2)
    scale_D = g_D.double().abs() + (shift_D / weight_D).abs()
    assert bool(((restored.value - g_D.double()).abs() <= 8 * EPS[dtype] * scale_D).all())
    torch.testing.assert_close(restored.variance, torch.ones_like(weight_D))


def restore(stage, state, value_D, variance_D):
    restorer = AffineRestorer(of="standardizer")
    return restorer.apply(
        {}, minted().derive(value_D, variance_D), {"standardizer": View(stage, state)}
    )


def test_the_paper_s_two_scales_do_not_invert_each_other():
    """√(β + μ) in line 9 and √β + μ in line 13: the law above would see it (erratum 4)."""
    stage = EmaStandardizer(mu=0.1)
    state = stage.init(context(SPACE), {})
    g_D = normal(SPACE.size, seed=0)
    line_9 = g_D / (state["beta_D"] + stage.mu).sqrt()
    restored = restore(stage, state, line_9, torch.zeros_like(g_D))
    assert not torch.allclose(restored.value, g_D, rtol=1e-3)


def test_where_the_weight_is_zero_the_restored_value_and_variance_are_zero():
    state = dict(GroupStandardizer().init(context(SPACE), {}))
    state["weight_D"] = state["weight_D"].clone()
    state["weight_D"][:3] = 0.0
    ones_D = torch.ones(SPACE.size, dtype=torch.float64)
    restored = restore(GroupStandardizer(), state, ones_D, ones_D)
    expected_D = torch.cat([torch.zeros(3), torch.ones(SPACE.size - 3)]).double()
    assert torch.equal(restored.value, expected_D)
    assert torch.equal(restored.variance, expected_D)


def test_only_an_affine_row_map_can_be_restored():
    with pytest.raises(GrammarError, match=r"affine-restorer\.of.*got row-top-k"):
        AffineRestorer(of="row-top-k").apply({}, minted(), {"row-top-k": View(RowTopK(), {})})


@given(st.integers(0, 1000), st.floats(0, 0.99), st.floats(0, 0.99))
def test_the_moments_follow_the_paper_s_line_15(seed, gamma1, gamma2):
    stage = EmaStandardizer(gamma1=gamma1, gamma2=gamma2)
    state = stage.init(context(SPACE), {})
    alpha_D, beta_D = torch.zeros(SPACE.size).double(), torch.ones(SPACE.size).double()
    for t in range(3):
        g_D = normal(SPACE.size, seed=seed + t)
        state = stage.update(state, release_of(g_D), {})
        beta_D = gamma2 * beta_D + (1 - gamma2) * (g_D - alpha_D) ** 2
        alpha_D = gamma1 * alpha_D + (1 - gamma1) * g_D
    torch.testing.assert_close(state["alpha_D"], alpha_D)
    torch.testing.assert_close(state["beta_D"], beta_D)


@pytest.mark.parametrize("stage", STANDARDIZERS)
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_a_frozen_coordinate_keeps_its_state(stage, steps, seed):
    before = reached(stage, steps)
    support_D = normal(SPACE.size, seed=seed) > 0
    g_D = normal(SPACE.size, seed=seed + 1)
    after = stage.update(before, release_of(g_D, g_D**2, support_D), {})
    for key in ("alpha_D", "beta_D", "mean_D", "noise_D", "seen_D"):
        if key in before:
            assert torch.equal(after[key][~support_D], before[key][~support_D])


def test_the_literal_standardizer_only_decays():
    """Erratum 11: with spreads 30 apart, √β_t is γ₂^(t/2) in every coordinate, to 10%.

    The noisy mean's deviation is σ·C·√β/B, tiny beside √β, so β ← γ₂·β whatever the data.
    """
    stage, steps, gamma2 = EmaStandardizer(gamma1=0.9, gamma2=0.99), 100, 0.99
    space = Space(("quiet", "loud"), ((20,), (20,)))
    spread_D = torch.cat([torch.full((20,), 0.1), torch.full((20,), 3.0)])
    pipeline = Pipeline(
        clipper=Flat(bound=0.5),
        noiser=Gaussian(noise_multiplier=1.0),
        rows=(stage,),
        posts=(AffineRestorer(of="ema-standardizer"),),
    )
    *_, (_, _, _, states) = steps_of(
        Plan((Phase("main", pipeline, steps),)),
        space,
        lambda t, context: spread_D * normal(64, 40, seed=t),
        expected_batch=64.0,
    )
    ratio_D = states["ema-standardizer"]["beta_D"].sqrt() / gamma2 ** (steps / 2)
    assert float(ratio_D.min()) > 0.9 and float(ratio_D.max()) < 1.1


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: EmaStandardizer(gamma1=1.0), "ema-standardizer.gamma1"),
        (lambda: EmaStandardizer(gamma2=-0.1), "ema-standardizer.gamma2"),
        (lambda: EmaStandardizer(mu=0.0), "ema-standardizer.mu"),
        (lambda: GroupStandardizer(refresh=0), "group-standardizer.refresh"),
        (lambda: GroupStandardizer(decay=1.0), "group-standardizer.decay"),
        (lambda: GroupStandardizer(limit=0.5), "group-standardizer.limit"),
        (lambda: GroupStandardizer(certainty=-1.0), "group-standardizer.certainty"),
    ],
)
def test_an_option_out_of_range_is_named(make, where):
    with pytest.raises(GrammarError) as caught:
        make()
    assert caught.value.where == where
