"""Automatic and normalised clipping: their formulas, what they keep, and the kernel's cap."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import DenseRows, GrammarError
from dpigu.dpcore.kernel import guarded_factors
from dpigu.mechanisms import Automatic, Flat, Normalised
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import normal

pytestmark = pytest.mark.numerical

BOUNDS = st.floats(1e-3, 1e3)
NORMS = st.floats(1e-6, 1e6)


def clipped(stage, norm):
    """The norm of a row of this norm behind the clipper."""
    return float(stage.factors({}, torch.tensor([norm], dtype=torch.float64))) * norm


@given(BOUNDS, st.floats(1e-6, 1e3), NORMS, st.floats(1.001, 100))
def test_automatic_keeps_the_order_of_norms_below_the_bound(bound, gamma, norm, longer):
    stage = Automatic(bound=bound, gamma=gamma)
    assert clipped(stage, norm) == pytest.approx(bound * norm / (norm + gamma))
    assert clipped(stage, norm) < clipped(stage, longer * norm) < bound * (1 + 1e-12)


@given(BOUNDS, NORMS)
def test_automatic_is_normalised_where_gamma_vanishes(bound, norm):
    """And a scaled-down identity where γ is large: C·‖z‖/γ."""
    assert clipped(Automatic(bound=bound, gamma=1e-15), norm) == pytest.approx(bound)
    assert clipped(Automatic(bound=bound, gamma=1e12), norm) == pytest.approx(
        bound * norm / 1e12, rel=1e-5
    )


@given(BOUNDS, st.floats(1e-100, 1e100))
def test_normalised_gives_every_row_the_bound(bound, norm):
    assert clipped(Normalised(bound=bound), norm) == pytest.approx(bound)


@given(BOUNDS)
def test_the_zero_row_stays_zero_and_no_factor_overflows(bound):
    norms_G = torch.tensor([0.0, 5e-324, 1e-300, 1e300], dtype=torch.float64)
    for stage in (Normalised(bound=bound), Automatic(bound=bound)):
        factors = stage.factors({}, norms_G)
        assert bool(factors.isfinite().all())
    assert bool((Normalised(bound=bound).factors({}, norms_G)[:3] == 0).all())


@given(st.integers(0, 1000), BOUNDS)
def test_the_bound_scales_the_sum_and_nothing_else(seed, bound):
    """So that only C times the learning rate counts; flat clipping has no such law."""
    rows = DenseRows(normal(5, 8, seed=seed))

    def total(stage):
        c_BG, _ = guarded_factors(stage, {}, rows.norm_upper_bounds(), stage.joint_bound({}))
        return rows.weighted_sum(c_BG)

    for make in (Automatic, Normalised):
        one, scaled = total(make(bound=1.0)), total(make(bound=bound))
        torch.testing.assert_close(scaled, bound * one, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(total(Flat(bound=100.0)), 100 * total(Flat(bound=1.0)), rtol=0.01)


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: Automatic(bound=0.0), "automatic.bound"),
        (lambda: Automatic(gamma=0.0), "automatic.gamma"),
        (lambda: Normalised(bound=float("inf")), "normalised.bound"),
    ],
)
def test_an_option_out_of_range_is_named(make, where):
    with pytest.raises(GrammarError) as caught:
        make()
    assert caught.value.where == where
