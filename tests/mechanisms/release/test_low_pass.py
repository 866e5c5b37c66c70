"""The filter is the linear recursive one, over steps, and a constant gradient passes unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dpigu.dpcore import GrammarError, Phase, Pipeline, Plan
from dpigu.mechanisms import Flat, Gaussian, LowPass
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, normal, steps_of

STEPS = 6
FILTERS = st.tuples(
    st.lists(st.sampled_from((-0.9, -0.5, 0.25)), max_size=2).map(tuple),
    st.lists(st.sampled_from((0.05, 0.2, 1.0)), min_size=1, max_size=3).map(tuple),
)
SEEDS = st.integers(0, 99)


def through(x_TD, feedback, feedforward):
    """The filter by its definition, one step at a time."""
    m_TD = np.zeros_like(x_TD)
    for t in range(len(x_TD)):
        for k, b in enumerate(feedforward):
            m_TD[t] += b * x_TD[t - k] if t >= k else 0
        for k, a in enumerate(feedback, start=1):
            m_TD[t] -= a * m_TD[t - k] if t >= k else 0
    return m_TD


def run(stage, rows):
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), posts=(stage,))
    plan = Plan((Phase("main", pipeline, STEPS),))
    return [release for _, _, release, _ in steps_of(plan, SPACE, rows)]


def law_what_is_released_is_filtered_over_the_steps(taken, seed):
    """Each release is the filter of all noised means so far, over that of ones; and its variance
    is the share of its own noise."""
    feedback, feedforward = taken
    releases = run(
        LowPass(feedback=feedback, feedforward=feedforward),
        lambda step, context: normal(3, SPACE.size, seed=seed + step).float(),
    )
    noised_TD = torch.stack([r.noised.value for r in releases]).numpy()
    one_T1 = through(np.ones((STEPS, 1)), feedback, feedforward)
    want_TD = through(noised_TD, feedback, feedforward) / one_T1
    got_TD = torch.stack([r.gradient.value for r in releases]).numpy()
    np.testing.assert_allclose(got_TD, want_TD, rtol=1e-9, atol=1e-9 * np.abs(want_TD).max())
    for scale, release in zip(one_T1[:, 0], releases, strict=True):
        share = (feedforward[0] / scale) ** 2
        torch.testing.assert_close(release.gradient.variance, share * release.noised.variance)


test_what_is_released_is_filtered_over_the_steps = given(FILTERS, SEEDS)(
    law_what_is_released_is_filtered_over_the_steps
)


def test_the_default_leaves_a_fifth_of_the_noise_s_energy_or_less():
    """Σ h_k² / (Σ h_k)² of the impulse response: 1/20 in the limit."""
    stage = LowPass()
    impulse = np.zeros((400, 1))
    impulse[0] = 1
    h_T = through(impulse, stage.feedback, stage.feedforward)[:, 0]
    assert h_T.sum() == pytest.approx(1.0) and (h_T**2).sum() == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("options", [{"feedforward": ()}, {"feedforward": (0.0, 1.0)}])
def test_a_filter_without_a_present_is_refused(options):
    with pytest.raises(GrammarError, match=r"low-pass\.feedforward"):
        LowPass(**options)
