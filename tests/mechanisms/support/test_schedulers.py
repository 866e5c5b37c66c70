"""Supports: the head of the ranking, of the declared size at every step."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from dpigu.dpcore import Clock, GrammarError, Space, View
from dpigu.mechanisms import (
    CosineUnfreeze,
    ExponentialUnfreeze,
    Flat,
    LinearUnfreeze,
    RandomFreeze,
    StepUnfreeze,
    TopK,
    WeightMagnitude,
)
from dpigu.mechanisms.support.schedulers import kept
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context

UNFREEZING = [LinearUnfreeze, CosineUnfreeze, StepUnfreeze, ExponentialUnfreeze]
SIZES = st.integers(2, 200)
STEPS = st.integers(2, 40)
RATIOS = st.integers(1, 100).map(lambda percent: percent / 100)


def reads(score_D):
    """A view of a scorer that gives these scores."""
    return {"scorer": View(WeightMagnitude(), {"score_D": score_D})}


def supports(scheduler, score_D, steps, seed=0):
    space = Space.flat("all", len(score_D))
    state = scheduler.init(context(space, steps=steps, seed=seed), reads(score_D))
    return [scheduler.support(state, Clock(t, steps)) for t in range(steps)]


def distinct(size, seed=0):
    """Distinct scores in a random order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(size, generator=generator).double()


@given(SIZES, RATIOS, RATIOS, STEPS)
@pytest.mark.parametrize("cls", UNFREEZING)
def test_unfreezing_starts_at_ratio_and_ends_at_end_exactly(cls, size, a, b, steps):
    ratio, end = min(a, b), max(a, b)
    live_TD = supports(cls(ratio=ratio, end=end), distinct(size), steps)
    assert int(live_TD[0].sum()) == max(1, round(ratio * 100) * size // 100)
    assert int(live_TD[-1].sum()) == max(1, round(end * 100) * size // 100)


@given(SIZES, RATIOS, RATIOS, STEPS, st.integers(0, 100))
@pytest.mark.parametrize("cls", UNFREEZING)
def test_unfreezing_never_loses_a_coordinate_and_is_live_as_declared(cls, size, a, b, steps, seed):
    scheduler = cls(ratio=min(a, b), end=max(a, b))
    live_TD = supports(scheduler, distinct(size, seed), steps)
    assert scheduler.monotone
    assert all(bool((later | ~sooner).all()) for sooner, later in pairwise(live_TD))
    changes = any(not torch.equal(x, live_TD[0]) for x in live_TD)
    counts = {kept(a, size), kept(b, size)}
    assert changes == (scheduler.live and len(counts) == 2)


@given(SIZES, RATIOS, STEPS, st.integers(0, 100))
@pytest.mark.parametrize("cls", [TopK, *UNFREEZING])
def test_every_live_coordinate_scores_above_every_frozen_one(cls, size, ratio, steps, seed):
    score_D = distinct(size, seed)
    for live_D in supports(cls(ratio=ratio), score_D, steps):
        if not live_D.all():
            assert score_D[live_D].min() > score_D[~live_D].max()


@given(SIZES, RATIOS, STEPS)
def test_top_k_never_changes_and_says_so(size, ratio, steps):
    live_TD = supports(TopK(ratio=ratio), distinct(size), steps)
    assert TopK().monotone and not TopK().live
    assert all(torch.equal(live_D, live_TD[0]) for live_D in live_TD)
    assert int(live_TD[0].sum()) == kept(ratio, size)


@given(SIZES, RATIOS)
def test_equal_scores_keep_the_order_of_the_coordinates(size, ratio):
    score_D = torch.zeros(size, dtype=torch.float64)
    score_D[-1] = 1.0
    (live_D,) = supports(TopK(ratio=ratio), score_D, 1)
    count = kept(ratio, size)
    assert live_D[-1]
    assert bool(live_D[: count - 1].all()) and int(live_D.sum()) == count


def test_a_decimal_ratio_keeps_the_decimal_count():
    """⌊0.29 · 100⌋ is 28 in doubles; what the user wrote is 29."""
    assert math.floor(0.29 * 100) == 28
    assert [kept(percent / 100, 100) for percent in range(1, 101)] == list(range(1, 101))
    assert kept(1e-6, 10) == 1


@pytest.mark.parametrize(
    ("scheduler", "half_way"),
    [
        (LinearUnfreeze(ratio=0.2, end=0.8), 0.5),
        (CosineUnfreeze(ratio=0.2, end=0.8), 0.5),
        (ExponentialUnfreeze(ratio=0.2, end=0.8), 0.4),
        (StepUnfreeze(ratio=0.2, end=0.8, levels=3), 0.5),
    ],
)
def test_half_way_through_the_phase_each_curve_is_where_its_formula_says(scheduler, half_way):
    assert scheduler.ratio_at(Clock(50, 101)) == pytest.approx(half_way, abs=1e-12)


@given(st.integers(2, 8), st.integers(8, 60))
def test_step_unfreezing_has_as_many_plateaus_as_levels(levels, steps):
    scheduler = StepUnfreeze(ratio=0.1, end=0.9, levels=levels)
    assert len({scheduler.ratio_at(Clock(t, steps)) for t in range(steps)}) == levels


@pytest.mark.parametrize("cls", UNFREEZING)
def test_a_phase_of_one_step_stays_at_ratio(cls):
    assert cls(ratio=0.3).ratio_at(Clock(0, 1)) == 0.3


@given(SIZES, RATIOS, RATIOS, STEPS, st.integers(0, 100))
def test_random_freeze_has_the_size_it_declares_at_both_ends(size, ratio, end, steps, seed):
    live_TD = supports(RandomFreeze(ratio=ratio, end=end), distinct(size), steps, seed)
    assert int(live_TD[0].sum()) == kept(ratio, size)
    assert int(live_TD[-1].sum()) == kept(end, size)


def test_random_freeze_draws_a_fresh_support_that_the_public_seed_fixes():
    scheduler, score_D = RandomFreeze(ratio=0.5, end=0.5), distinct(40)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (supports(scheduler, score_D, 5, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not any(torch.equal(a, b) for a, b in pairwise(one))
    assert torch.equal(torch.get_rng_state(), before)
    assert scheduler.live and not scheduler.monotone
    assert not RandomFreeze(ratio=1.0, end=1.0).live


def test_random_freeze_favours_no_coordinate():
    """1000 supports of 10 in 20: each coordinate is live 500 ± 5·√250 times.

    With fresh seeds this would fail once in 20 / 1.7e6 runs; the seed is fixed.
    """
    live_TD = supports(RandomFreeze(ratio=0.5, end=0.5), distinct(20), 1000)
    counts_D = torch.stack(live_TD).sum(0)
    assert int((counts_D - 500).abs().max()) < 5 * math.sqrt(250)


def test_scores_that_rank_nothing_are_refused():
    with pytest.raises(GrammarError, match=r"all equal.*earlier phase"):
        supports(TopK(), torch.zeros(5), 1)


def test_a_stage_that_gives_no_scores_is_refused():
    scheduler = TopK(reads=("flat",))
    with pytest.raises(GrammarError, match=r"top-k\.reads: this stage gives no scores \(got flat"):
        scheduler.init(context(Space.flat("all", 5)), {"flat": View(Flat(bound=1.0), {})})


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: TopK(ratio=0.0), "top-k.ratio"),
        (lambda: TopK(ratio=1.5), "top-k.ratio"),
        (lambda: TopK(ratio=math.nan), "top-k.ratio"),
        (lambda: TopK(reads=("a", "b")), "top-k.reads"),
        (lambda: LinearUnfreeze(ratio=0.6, end=0.5), "linear-unfreeze.end"),
        (lambda: StepUnfreeze(levels=1), "step-unfreeze.levels"),
        (lambda: RandomFreeze(end=0.0), "random-freeze.end"),
    ],
)
def test_an_option_out_of_range_is_named(make, option):
    with pytest.raises(GrammarError) as caught:
        make()
    assert caught.value.where == option


def test_the_laws_can_fail():
    """A scheduler that drops a coordinate is seen by the check of monotonicity."""
    live_TD = supports(RandomFreeze(ratio=0.5, end=0.5), distinct(40), 5)
    assert not all(bool((later | ~sooner).all()) for sooner, later in pairwise(live_TD))
