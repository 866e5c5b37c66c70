"""Clippers and noiser: the factor, its bound, and the event."""

from __future__ import annotations

import math

import dp_accounting
import pytest
import torch
from dpigu.dpcore import GrammarError, Pipeline
from dpigu.dpcore.kernel import guarded_factors
from dpigu.mechanisms import Flat, FloatGaussian, Gaussian, Unclipped
from hypothesis import given
from hypothesis import strategies as st

BOUNDS = st.floats(1e-6, 1e6)
NORMS = st.floats(0, 1e12)


@given(BOUNDS, NORMS)
def test_a_clipped_norm_is_at_most_the_bound_to_rounding(bound, norm):
    """Flat alone is right to one rounding; the kernel's guard makes it exact."""
    norms_BG = torch.tensor([[norm]], dtype=torch.float64)
    factor = float(Flat(bound=bound).factors({}, norms_BG[0]))
    assert factor * norm <= bound * (1 + 2**-52)
    C = Flat(bound=bound).joint_bound({})
    c_BG, valid_B = guarded_factors(Flat(bound=bound), {}, norms_BG, C)
    assert float(c_BG) * norm <= bound
    assert bool(valid_B.all())


@given(BOUNDS, NORMS)
def test_a_row_within_the_bound_is_left_as_it_is(bound, norm):
    factor = float(Flat(bound=bound).factors({}, torch.tensor([min(norm, bound)])[:1].double()))
    assert factor == pytest.approx(1.0, abs=1e-7)
    assert float(Flat(bound=bound).factors({}, torch.tensor([0.0]))) == 1.0


@given(st.floats(0, 1e300))
def test_unclipped_leaves_every_row_and_has_no_bound(norm):
    assert float(Unclipped().factors({}, torch.tensor([norm], dtype=torch.float64))) == 1.0
    assert float(Unclipped().joint_bound({})) == math.inf


def test_noise_without_a_bound_is_refused():
    with pytest.raises(GrammarError, match="no finite bound"):
        Pipeline(clipper=Unclipped(), noiser=Gaussian())
    assert not Pipeline(clipper=Unclipped(), noiser=Gaussian(noise_multiplier=0.0)).private


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_out_of_range_is_named(bound):
    with pytest.raises(GrammarError, match=r"flat\.bound"):
        Flat(bound=bound)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_event_is_the_gaussian_of_the_multiplier_that_runs(multiplier, factor):
    pipeline = Pipeline(clipper=Flat(bound=3.0), noiser=Gaussian(noise_multiplier=multiplier))
    assert pipeline.event() == dp_accounting.GaussianDpEvent(multiplier)
    scaled = pipeline.scaled_noise(factor)
    assert scaled.event() == dp_accounting.GaussianDpEvent(multiplier * factor)
    assert scaled.clipper == pipeline.clipper


def test_a_law_by_another_name_is_another_noiser():
    """Both are charged as the Gaussian; the one that leaves the low bits open says so by name."""
    for noiser, law in ((Gaussian(), "gaussian"), (FloatGaussian(), "gaussian-float")):
        assert noiser.law == law
        assert Pipeline(clipper=Flat(bound=1.0), noiser=noiser).event() == (
            dp_accounting.GaussianDpEvent(1.0)
        )


def test_the_multiplier_is_1_until_it_is_calibrated():
    """Plan.scaled_noise multiplies it, so that the factor is the multiplier itself."""
    assert Gaussian().noise_multiplier == 1.0
