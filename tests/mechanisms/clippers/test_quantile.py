"""The quantile clipper: its step, where it settles, how much it wanders, and what it costs."""

from __future__ import annotations

import math

import dp_accounting
import pytest
import torch
from dpigu.dpcore import GrammarError, Phase, Pipeline, Plan, Space, View
from dpigu.mechanisms import ClippedCount, Flat, Gaussian, Quantile
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, minted, normal, release_of, steps_of

ONE = Space.flat("one", 1)
SHARES = st.floats(-0.5, 1.5)


def told(share):
    """A release in which this share of the records was within the bound."""
    release = release_of(torch.zeros(1))
    value = torch.tensor([share - 0.5], dtype=torch.float64)
    answer = minted().derive(value, torch.zeros_like(value))
    return type(release)(**{**vars(release), "queries": {"clipped-count": answer}})


def after(stage, shares):
    state = stage.init(context(ONE), {})
    for share in shares:
        state = stage.update(state, told(share), {})
    return float(stage.joint_bound(state))


@given(SHARES, st.floats(0.05, 0.95), st.floats(0.01, 1.0), st.floats(1e-3, 1e3))
def test_a_step_is_the_paper_s(share, quantile, rate, bound):
    """C · exp(−η(b̃ − γ)), with b̃ in [0, 1] (arXiv 1905.03871, Algorithm 1)."""
    stage = Quantile(bound=bound, quantile=quantile, rate=rate)
    expected = bound * math.exp(-rate * (min(max(share, 0.0), 1.0) - quantile))
    assert after(stage, [share]) == pytest.approx(expected)


@given(st.lists(SHARES, max_size=10), st.permutations(range(10)))
def test_steps_add_up_in_any_order(shares, order):
    shuffled = [shares[i] for i in order if i < len(shares)]
    assert after(Quantile(), shares) == pytest.approx(after(Quantile(), shuffled))


@given(st.floats(1.01, 100), st.sampled_from((0.0, 1.0)))
def test_the_bound_stays_within_its_public_range(limit, share):
    stage = Quantile(bound=0.3, limit=limit, rate=5.0)
    reached = after(stage, [share] * 50)
    assert reached == pytest.approx(0.3 / limit if share else 0.3 * limit)


@given(st.floats(1e-3, 1e3), st.floats(0, 1e4))
def test_the_query_says_whether_the_row_is_within_the_clipper_s_bound(bound, norm):
    clipper = Flat(bound=bound)
    vector = ClippedCount().vector(
        {}, torch.tensor([norm]).double(), {"clipper": View(clipper, {})}
    )
    within = float(torch.tensor([norm]).double()) <= bound
    assert vector.tolist() == [0.5 if within else -0.5]


def settled(quantile, *, noise_ratio, steps=500, start=20.0):
    """log C over the last steps, on rows of norm exp(N(0, 1)): batches of 200, unit noise."""
    pipeline = Pipeline(
        clipper=Quantile(bound=start, quantile=quantile),
        noiser=Gaussian(noise_multiplier=1.0),
        queries=(ClippedCount(noise_ratio=noise_ratio),),
    )
    rows = steps_of(
        Plan((Phase("main", pipeline, steps),)),
        ONE,
        lambda t, context: normal(200, 1, seed=t).exp().float(),
        expected_batch=200.0,
    )
    bounds = [float(states["quantile"]["bound"]) for _, _, _, states in rows]
    return torch.tensor(bounds[steps // 5 :]).log()


@pytest.mark.parametrize(("quantile", "normal_quantile"), [(0.5, 0.0), (0.8, 0.8416)])
def test_through_the_kernel_the_bound_settles_at_the_quantile(quantile, normal_quantile):
    """From 20 times the median; the mean over 400 steps is found to 0.05 (seeds are fixed)."""
    log_bound = settled(quantile, noise_ratio=20.0)
    assert float(log_bound.mean()) == pytest.approx(normal_quantile, abs=0.05)


def test_its_wandering_is_the_one_that_the_documentation_states():
    """√(η/2p) · √(sampling ¼/200 + noise (ratio/2·200)²), to a third; seeds are fixed."""
    density, share_variance = 0.3989, 0.25 / 200 + (40 / 400) ** 2
    expected = math.sqrt(0.2 / (2 * density) * share_variance)
    found = float(settled(0.5, noise_ratio=40.0, steps=1000).std())
    assert found == pytest.approx(expected, rel=0.33)


@given(st.floats(0.5, 10), st.floats(1, 100))
def test_the_count_is_charged_jointly_with_the_gradient(multiplier, ratio):
    """z_eff = z/√(1 + 1/ratio²); at the default ratio the gradient loses 0.125%."""
    pipeline = Pipeline(
        clipper=Quantile(),
        noiser=Gaussian(noise_multiplier=multiplier),
        queries=(ClippedCount(noise_ratio=ratio),),
    )
    event = pipeline.event()
    assert isinstance(event, dp_accounting.GaussianDpEvent)
    assert event.noise_multiplier == pytest.approx(multiplier / math.sqrt(1 + ratio**-2))
    loss = 1 - 1 / math.sqrt(1 + ClippedCount().noise_ratio ** -2)
    assert loss == pytest.approx(0.00125, rel=0.01)


def test_a_pipeline_without_the_query_is_refused():
    with pytest.raises(GrammarError, match="learns from a query that is not in the pipeline"):
        Pipeline(clipper=Quantile(), noiser=Gaussian())


def test_without_its_query_the_clipper_says_which_is_missing():
    stage = Quantile()
    with pytest.raises(GrammarError, match="clipped-count"):
        stage.update(stage.init(context(ONE), {}), release_of(torch.zeros(1)), {})


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: Quantile(bound=0.0), "quantile.bound"),
        (lambda: Quantile(quantile=1.0), "quantile.quantile"),
        (lambda: Quantile(rate=0.0), "quantile.rate"),
        (lambda: Quantile(limit=0.5), "quantile.limit"),
        (lambda: Quantile(limit=2.0**501), "quantile.limit"),
        (lambda: ClippedCount(noise_ratio=0.0), "clipped-count.noise_ratio"),
    ],
)
def test_an_option_out_of_range_is_named(make, where):
    with pytest.raises(GrammarError) as caught:
        make()
    assert caught.value.where == where
