"""Per-record top-k keeps exactly the largest of each row, and frozen coordinates take no place."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import AffineRowMap, Clock, GrammarError, Space, Transform, View
from dpigu.mechanisms import EmaStandardizer, LinearUnfreeze, RowTopK
from dpigu.mechanisms.support.schedulers import kept
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, normal, release_of

pytestmark = pytest.mark.numerical

RATIOS = st.integers(1, 100).map(lambda percent: percent / 100)
ROWS = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(ROWS, RATIOS)
def test_a_row_keeps_its_k_largest_coordinates_and_their_values(values, ratio):
    """Small integers, so that there are ties and zeros."""
    g_D = torch.tensor(values, dtype=torch.float32)
    z_D = kept_of(RowTopK(ratio=ratio), g_D)
    count = kept(ratio, len(g_D))
    assert int((z_D != 0).sum()) <= count
    assert torch.equal(z_D.abs().sort(descending=True).values[:count], largest(g_D, count))
    assert bool(((z_D == g_D) | (z_D == 0)).all())


def kept_of(stage, g_D):
    return stage.row(stage.init(context(Space.flat("all", len(g_D))), {}), g_D)


def largest(g_D, count):
    return g_D.abs().sort(descending=True).values[:count]


@given(st.integers(1, 40), RATIOS)
def test_ties_do_not_change_the_count(size, ratio):
    z_D = kept_of(RowTopK(ratio=ratio), torch.ones(size))
    assert int((z_D != 0).sum()) == kept(ratio, size)


@given(st.integers(1, 6), st.integers(1, 20), RATIOS, st.integers(0, 100))
def test_each_record_keeps_its_own(batch, size, ratio, seed):
    """The map over a batch is the map of each row by itself."""
    stage, g_BD = RowTopK(ratio=ratio), normal(batch, size, seed=seed, dtype=torch.float32)
    state = stage.init(context(Space.flat("all", size)), {})
    z_BD = torch.func.vmap(lambda g_D: stage.row(state, g_D))(g_BD)
    assert torch.equal(z_BD, torch.stack([stage.row(state, g_D) for g_D in g_BD]))
    assert not isinstance(stage, AffineRowMap)


def test_a_frozen_coordinate_takes_no_place_among_the_largest():
    """A centring standardizer moves a frozen coordinate to −α/√β; top-k must not keep it."""
    space = Space.flat("all", 4)
    ema, top = EmaStandardizer(gamma1=0.0), RowTopK(ratio=0.5)
    state = ema.update(
        ema.init(context(space), {}), release_of(torch.tensor([9.0, 9.0, 0.0, 0.0])), {}
    )
    support_D = torch.tensor([False, False, True, True])
    kept_state = top.init(context(space), {})
    transform = Transform(space, space, ((ema, state), (top, kept_state)), support_D)
    z_BD = transform(torch.tensor([[0.0, 0.0, 1.0, 2.0]]))
    assert bool((z_BD[0, 2:] != 0).all()) and bool((z_BD[0, :2] == 0).all())
    without_D = top.row(kept_state, ema.row(state, torch.tensor([0.0, 0.0, 1.0, 2.0])))
    assert bool((without_D[2:] == 0).all())


@given(st.integers(1, 40), RATIOS, RATIOS, st.integers(2, 6))
def test_a_share_of_the_live_coordinates_is_kept_at_every_step(size, live, ratio, steps):
    """k_t = max(1, ⌊r·|support_t|⌋): frozen coordinates are not counted (paper, section 4)."""
    space, top = Space.flat("all", size), RowTopK(ratio=ratio, reads=("scheduler",))
    scheduler = LinearUnfreeze(ratio=live)
    view = View(scheduler, {"rank_D": torch.arange(size)})
    state = top.init(context(space, steps=steps), {"scheduler": view})
    for step in range(steps):
        support_D = scheduler.support(view.state, Clock(step, steps))
        assert int(state["count"]) == kept(ratio, int(support_D.sum()))
        done = release_of(torch.ones(size), support_D=support_D, clock=Clock(step, steps))
        state = top.update(state, done, {"scheduler": view})


def test_the_support_that_counts_is_a_scheduler_s_in_the_rows_space():
    space, top = Space.flat("all", 4), RowTopK(reads=("scheduler",))
    with pytest.raises(GrammarError, match=r"row-top-k\.reads.*gives no support"):
        top.init(context(space), {"scheduler": View(EmaStandardizer(), {})})
    view = View(LinearUnfreeze(), {"rank_D": torch.arange(9)})
    with pytest.raises(GrammarError, match="the support is of another space than the rows"):
        top.init(context(space), {"scheduler": view})


def test_a_ratio_out_of_range_is_named():
    with pytest.raises(GrammarError, match=r"row-top-k\.ratio.*\(got 0, expected a share"):
        RowTopK(ratio=0)
