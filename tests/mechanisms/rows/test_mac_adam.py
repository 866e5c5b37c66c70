"""DP-MacAdam: its moments, the row they make, and that the mean is the one that Adam steps with."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import GrammarError, Space, View
from dpigu.mechanisms import AffineRestorer, MacAdam
from dpigu.trainers.settings import masked_step
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.support.laws.stage_steps import SPACE, context, minted, normal, release_of

pytestmark = pytest.mark.numerical

DRAWN = {"seed": st.integers(0, 1000), "steps": st.integers(1, 5), "noise": st.floats(0.0, 0.5)}


def law_the_moments_follow_the_paper(seed, steps, noise):
    """m, u, κ and s as in arXiv 2606.05435, one step after another, by their definitions; b₀ = 1/D,
    and after the first step, which tells no spread, s = h₁."""
    stage, beta = MacAdam(decay=0.8, least=1e-3, most=2.0), 0.8
    state = stage.init(context(SPACE), {})
    m_D = u_D = before_D = torch.zeros(SPACE.size).double()
    torch.testing.assert_close(1 / stage.affine(state).dense()[0], torch.ones_like(m_D) / len(m_D))
    for t in range(1, steps + 1):
        g_D = normal(SPACE.size, seed=seed + t)
        state = stage.update(state, release_of(g_D, torch.full_like(g_D, noise)), {})
        m_D = beta * m_D + (1 - beta) * g_D
        mean_D = m_D / (1 - beta**t)
        u_D = beta * u_D + (1 - beta) * (g_D - mean_D) * (g_D - before_D)
        before_D = mean_D
        short = 2 * (beta - beta**t) / (1 + beta)
        found_D = (u_D / short - noise).clamp(1e-3, 2.0) if t > 1 else torch.tensor(1e-3).double()
        spread2_D = found_D.expand(SPACE.size)
    torch.testing.assert_close(state["spread2_D"], spread2_D)
    weight_D, shift_D = stage.affine(state)
    torch.testing.assert_close(shift_D, weight_D * mean_D)
    torch.testing.assert_close(1 / weight_D, (spread2_D.sqrt() * spread2_D.sqrt().sum()).sqrt())


test_the_moments_follow_the_paper = given(**DRAWN)(law_the_moments_follow_the_paper)


@given(st.integers(0, 1000), st.integers(1, 4))
def test_a_row_of_the_spread_it_knows_has_length_one_on_average_and_comes_back(seed, steps):
    """Σ s/b² = 1; and the restorer inverts."""
    stage = MacAdam(least=1e-3, most=10.0)
    state = stage.init(context(SPACE), {})
    for t in range(steps):
        state = stage.update(state, release_of(normal(SPACE.size, seed=seed + t)), {})
    weight_D, _ = stage.affine(state)
    assert float((state["spread2_D"] * weight_D**2).sum()) == pytest.approx(1.0)
    g_D = normal(SPACE.size, seed=seed + 99)
    made = minted().derive(stage.row(state, g_D), torch.ones_like(g_D))
    back = AffineRestorer(of="mac-adam").apply({}, made, {"mac-adam": View(stage, state)})
    torch.testing.assert_close(back.value, g_D)


def test_the_correction_makes_the_spread_unbiased():
    """Of gradients with independent entries of variance 4, u/κ is 4 on average: 400 coordinates
    after 60 steps, within five standard errors of squares with (1 − β)/(1 + β) of independence."""
    stage, size = MacAdam(most=1e6), 400
    space = Space.flat("w", size)
    state = stage.init(context(space), {})
    for t in range(60):
        state = stage.update(state, release_of(2 * normal(size, seed=t)), {})
    error = 5 * 4 * (2 * (1 - 0.9) / (1 + 0.9) / size) ** 0.5
    assert float(state["spread2_D"].mean()) == pytest.approx(4.0, abs=error)


def test_adam_steps_along_the_mean_that_centres():
    stage, weight = MacAdam(), nn.Parameter(torch.zeros(SPACE.size).double())
    optimizer, state = torch.optim.Adam([weight], lr=1.0), stage.init(context(SPACE), {})
    for t in range(3):
        release = release_of(normal(SPACE.size, seed=t))
        state = stage.update(state, release, {})
        masked_step(optimizer, {"w": weight}, Space.of({"w": weight}), release)
    torch.testing.assert_close(optimizer.state[weight]["exp_avg"], state["mean_D"])


@pytest.mark.parametrize(("option", "value"), [("decay", 1.0), ("least", 0.0), ("most", 1e-10)])
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(GrammarError, match=rf"mac-adam\.{option}"):
        MacAdam(**{option: value})
