"""Laws of noise in a kernel's step: the grid, the sensitivity on it, and what is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from dpigu.dpcore import (
    DenseRows,
    Noiser,
    Phase,
    Pipeline,
    Plan,
    PrivacyError,
    ReproducibleNoise,
    describe,
)
from dpigu.dpcore.noise import LAWS, SystemNoise, grid_of
from dpigu.dpcore.noise.rounded import ERROR
from dpigu.mechanisms import Flat, FloatGaussian, Gaussian
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.noise.noise_quantile import errors, ranges
from tests.laws.noise.test_noise import QUERY
from tests.support.exact import exact_distance_square
from tests.support.laws.strategies import Opened, batches, dpsgd, opened, steps


def plan_with(noiser: Noiser) -> Plan:
    """One phase of DP-SGD with this noiser."""
    return Plan((Phase("main", Pipeline(Flat(bound=1.0), noiser), 4),))


EXACT = steps(
    noisers=st.builds(Gaussian, noise_multiplier=st.floats(0.01, 100)), queries=st.just(QUERY)
)


def law_released_on_the_grid(here: Opened, g_BD: Tensor) -> None:
    """Before the divisor (a power of two here) every release is a whole number of grid steps."""
    kernel = here.kernel(noise=SystemNoise())
    release, _ = kernel.release(here.states, here.context, here.pieces(g_BD, 3))
    multiplier = here.pipeline.stages.noiser.noise_multiplier
    queries = here.pipeline.stages.of("query")
    ratios = [1.0, *(p.stage.noise_ratio for p in queries)]
    released = [release.noised, *(release.queries[p.name] for p in queries)]
    for one, made, ratio in zip(released, kernel.bounded, ratios, strict=True):
        grid = grid_of(multiplier * ratio * float(made.sensitivity))
        steps_K = one.value * 4.0 / grid
        assert bool((steps_K == steps_K.round()).all())
        assert bool((steps_K.abs() < 2**53).all())
        zeros_K = steps_K[steps_K == 0]
        assert not bool(torch.signbit(zeros_K).any()), "the sign of a zero tells of the sum"


@given(here=EXACT, g_BD=batches())
def test_what_is_released_lies_on_the_grid(here: Opened, g_BD: Tensor) -> None:
    law_released_on_the_grid(here, g_BD)


def law_sensitivity_on_the_grid(here: Opened, g_BD: Tensor, at: int, seed: int) -> None:
    """With the same noise, one record moves what is released by at most Δ + g√K = s/σ."""
    at = at % len(g_BD)
    without_BD = torch.cat([g_BD[:at], g_BD[at + 1 :]])
    kernels = [here.kernel(noise=ReproducibleNoise(seed)) for _ in range(2)]
    released = [
        kernel.release(here.states, here.context, here.pieces(rows_BD, 3))[0].noised
        for kernel, rows_BD in zip(kernels, (g_BD, without_BD), strict=True)
    ]
    multiplier = here.pipeline.stages.noiser.noise_multiplier
    sensitivity = float(kernels[0].bounded[0].sensitivity)
    size = len(released[0].value)
    limit = sensitivity + grid_of(multiplier * sensitivity) * math.sqrt(size)
    moved = exact_distance_square(*(4.0 * one.value for one in released))
    assert moved <= Fraction(limit) ** 2
    std = math.sqrt(float(released[0].variance.max())) * 4.0
    assert std >= multiplier * limit * (1 - 2.0**-50)


@given(here=EXACT, g_BD=batches(min_size=1), at=st.integers(0, 5), seed=st.integers(0, 9))
def test_one_record_moves_a_release_by_at_most_the_sensitivity_on_the_grid(
    here: Opened, g_BD: Tensor, at: int, seed: int
) -> None:
    law_sensitivity_on_the_grid(here, g_BD, at, seed)


@given(std=st.floats(2.0**-900, 2.0**900))
def test_the_grid_is_a_power_of_two_26_to_27_bits_below(std: float) -> None:
    grid = grid_of(std)
    assert math.frexp(grid)[0] == 0.5 and 2.0**26 <= std / grid < 2.0**27


@pytest.mark.parametrize("std", [0.0, 1e-300, 1e300, math.inf, math.nan])
def test_a_scale_without_a_grid_is_refused(std: float) -> None:
    with pytest.raises(PrivacyError, match="noise cannot be drawn at this scale"):
        grid_of(std)


class Lying(DenseRows):
    """Rows whose sum is anything: an engine that broke its contract."""

    def weighted_sum(self, factors_BG: Tensor) -> Tensor:
        return torch.full((24,), LIE[0], dtype=torch.float64)


LIE = [0.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e6, -1e6, 1e300])
def test_a_sum_that_is_not_finite_or_too_long_is_refused(value: float) -> None:
    here = opened(dpsgd())
    LIE[0] = value
    with pytest.raises(PrivacyError, match="not finite, or longer than its records allow"):
        here.kernel().release(here.states, here.context, [Lying(torch.zeros(1, 24))])
    LIE[0] = 100.0  # fewer than the 148 records that there may be
    here.kernel().release(here.states, here.context, [Lying(torch.zeros(1, 24))])


def test_noise_too_small_for_the_grid_is_refused_whatever_the_data() -> None:
    """148 records of norm C at σ = 10⁻⁶ are 2⁵³ steps of the grid; the plain draw takes it."""
    exact = opened(plan_with(Gaussian(noise_multiplier=1e-6)))
    with pytest.raises(PrivacyError, match="do not fit on the grid of the noise"):
        exact.kernel().release(exact.states, exact.context, [])
    plain = opened(plan_with(FloatGaussian(noise_multiplier=1e-6)))
    plain.kernel().release(plain.states, plain.context, [])


@pytest.mark.parametrize("law", sorted(LAWS))
def test_a_plan_says_what_its_noise_is(law: str) -> None:
    noiser = {"gaussian": Gaussian(), "gaussian-float": FloatGaussian()}[law]
    lines = [line for line in describe(plan_with(noiser)) if "the noise is" in line.statement]
    assert [line.held for line in lines] == [LAWS[noiser.law].held]
    assert ("not counted" in lines[0].statement) == (law == "gaussian-float")


def test_the_error_of_the_quantile_is_below_the_one_that_is_relied_on() -> None:
    """Certified, at points of each range: the formula's error, the bound of its float64
    arithmetic, and 4 units for the probability's and the product's own roundings."""
    for points in ranges(40).values():
        found = errors(points)
        assert found.outside == 0
        assert (found.certified + 4) * 2.0**-53 < ERROR / 2
