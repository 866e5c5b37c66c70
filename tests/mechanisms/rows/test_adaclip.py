"""AdaCliP: its moments, its scales, the row it makes, and that noise is taken off."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import GrammarError, Space, View
from dpigu.mechanisms import AdaClip, AffineRestorer
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, minted, normal, release_of

pytestmark = pytest.mark.numerical

STEPS = st.lists(st.tuples(st.integers(0, 1000), st.integers(-6, 2)), max_size=6)


def reached(stage, steps):
    state = stage.init(context(SPACE), {})
    for seed, exponent in steps:
        g_D = 2.0**exponent * normal(SPACE.size, seed=seed)
        support_D = normal(SPACE.size, seed=seed + 1) > -0.5
        state = stage.update(state, release_of(g_D, 0.1 * g_D**2, support_D), {})
    return state


@given(STEPS)
def test_the_scale_is_the_root_of_the_spread_and_keeps_the_typical_norm(steps):
    """b ∝ √s and Σ s²/b² = Σ s²."""
    stage = AdaClip()
    state = reached(stage, steps)
    weight_D, shift_D = stage.affine(state)
    s_D = state["spread2_D"].sqrt()
    ratio_D = weight_D * s_D.sqrt()
    torch.testing.assert_close(ratio_D, ratio_D[0].expand_as(ratio_D))
    torch.testing.assert_close((weight_D * s_D).square().sum(), s_D.square().sum())
    torch.testing.assert_close(shift_D, weight_D * state["mean_D"])


@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=6), st.integers(0, 100))
def test_no_other_scale_of_the_same_typical_norm_has_less_noise_energy(spreads, seed):
    """Σ b² at Σ s²/b² = Σ s² (arXiv 1908.07643, theorem 3)."""
    s_D = torch.tensor(spreads, dtype=torch.float64)
    state = {"mean_D": torch.zeros_like(s_D), "spread2_D": s_D**2}
    energy = (AdaClip().affine(state).weight_D ** -2).sum()
    other_D = AdaClip().affine(state).weight_D * normal(len(s_D), seed=seed).exp()
    other_D = other_D * (s_D.norm() / (other_D * s_D).norm())
    assert float(energy) <= float((other_D**-2).sum()) * (1 + 1e-9)
    assert float(energy) <= len(s_D) * (1 + 1e-9)  # no scaling at all


@given(STEPS, st.integers(0, 1000))
def test_restoring_inverts_it(steps, seed):
    stage, g_D = AdaClip(), normal(SPACE.size, seed=seed)
    state = reached(stage, steps)
    z_D = stage.row(state, g_D)
    back = AffineRestorer(of="adaclip").apply(
        {}, minted().derive(z_D, torch.ones_like(z_D)), {"adaclip": View(stage, state)}
    )
    scale_D = g_D.abs() + state["mean_D"].abs()
    assert bool(((back.value - g_D).abs() <= 1e-14 * scale_D).all())


@given(st.integers(0, 1000), st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.0, 2.0))
def test_the_moments_follow_algorithm_2(seed, mean_decay, decay, noise):
    stage = AdaClip(mean_decay=mean_decay, decay=decay, least=0.01, most=2.0)
    state = stage.init(context(SPACE), {})
    mean_D = torch.zeros(SPACE.size).double()
    spread2_D = torch.full_like(mean_D, 0.02**0.5)
    for t in range(3):
        g_D = normal(SPACE.size, seed=seed + t)
        state = stage.update(state, release_of(g_D, torch.full_like(g_D, noise)), {})
        excess_D = ((g_D - mean_D) ** 2 - noise).clamp(0.01, 2.0)
        spread2_D = decay * spread2_D + (1 - decay) * excess_D
        mean_D = mean_decay * mean_D + (1 - mean_decay) * g_D
    torch.testing.assert_close(state["mean_D"], mean_D)
    torch.testing.assert_close(state["spread2_D"], spread2_D)


def spread_ratio(noise, told):
    """s of a loud over that of a quiet half: spreads of 3 and 1 and noise, over 400 steps."""
    space = Space(("loud", "quiet"), ((200,), (200,)))
    spread_D = torch.cat([torch.full((200,), 3.0), torch.full((200,), 1.0)]).double()
    stage = AdaClip(decay=0.99, most=1e6)
    state = stage.init(context(space), {})
    for t in range(400):
        g_D = spread_D * normal(400, seed=2 * t) + noise * normal(400, seed=2 * t + 1)
        variance_D = torch.full((400,), told**2).double()
        state = stage.update(state, release_of(g_D, variance_D), {})
    s_D = state["spread2_D"].sqrt()
    return float(s_D[:200].mean() / s_D[200:].mean())


def test_the_known_noise_is_taken_off():
    """The ratio of spreads is 3; noise as loud as the louder one hides it unless it is
    subtracted. Clamping each step's estimate at h₁ leaves part of it (seeds are fixed)."""
    assert spread_ratio(noise=0.0, told=0.0) == pytest.approx(3.0, rel=0.05)
    hidden, found = spread_ratio(noise=3.0, told=0.0), spread_ratio(noise=3.0, told=3.0)
    assert hidden < 1.4 and found > hidden + 0.1


def test_a_frozen_coordinate_keeps_its_moments():
    stage, support_D = AdaClip(), torch.arange(SPACE.size) % 2 == 0
    before = reached(stage, [(1, 0), (2, 0)])
    after = stage.update(before, release_of(normal(SPACE.size, seed=3), None, support_D), {})
    for key in before:
        assert torch.equal(after[key][~support_D], before[key][~support_D])
        assert not torch.equal(after[key][support_D], before[key][support_D])


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"mean_decay": 1.0}, "adaclip.mean_decay"),
        ({"decay": -0.1}, "adaclip.decay"),
        ({"least": 0.0}, "adaclip.least"),
        ({"most": 1e-12}, "adaclip.most"),
    ],
)
def test_an_option_out_of_range_is_named(options, where):
    with pytest.raises(GrammarError) as caught:
        AdaClip(**options)
    assert caught.value.where == where
