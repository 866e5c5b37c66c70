"""The denoisers: their formulas, and that they lower the expected squared error."""

from __future__ import annotations

import math

import pytest
import torch
from dpigu.dpcore import GrammarError, Space
from dpigu.mechanisms import JamesStein, SoftThreshold
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, minted, normal

pytestmark = pytest.mark.numerical

DRAWS = 1500


def shrunk(stage, y_K, variance_K, space):
    state = stage.init(context(space), {}) if hasattr(stage, "init") else {}
    return stage.apply(state, minted().derive(y_K, variance_K), {})


def risks(stage, mean_D, std, seed=0, draws=DRAWS):
    """Mean squared errors of the estimate and of the raw vector, and the standard error of
    their difference; noise from fixed seeds."""
    space = Space.flat("all", len(mean_D))
    noise = std * normal(draws, len(mean_D), seed=seed)
    variance_D = torch.full_like(mean_D, std**2)
    raw, error = [], []
    for n_D in noise:
        out_D = shrunk(stage, mean_D + n_D, variance_D, space).value
        raw.append(float(n_D.square().sum()))
        error.append(float((out_D - mean_D).square().sum()))
    raw_T, error_T = torch.tensor(raw), torch.tensor(error)
    return float(error_T.mean()), float(raw_T.mean()), float((raw_T - error_T).std() / draws**0.5)


@given(st.integers(0, 1000), st.integers(-3, 3))
def test_the_factor_is_the_positive_part_james_stein_one(seed, exponent):
    y_D, v = 2.0**exponent * normal(SPACE.size, seed=seed), 0.3
    out = shrunk(JamesStein(), y_D, torch.full_like(y_D, v), SPACE)
    for g in (0, 1):
        part = SPACE.groups("layer") == g
        n, energy = int(part.sum()), float((y_D[part] ** 2).sum()) / v
        torch.testing.assert_close(out.value[part], y_D[part] * max(0.0, 1 - (n - 2) / energy))


@given(st.integers(0, 1000))
def test_what_has_no_noise_and_groups_of_two_are_left_alone(seed):
    y_D = normal(SPACE.size, seed=seed)
    exact = shrunk(JamesStein(), y_D, torch.zeros_like(y_D), SPACE)
    assert torch.equal(exact.value, y_D)
    pairs = Space(("a.weight", "b.weight"), ((2,), (2,)))
    two = shrunk(JamesStein(), y_D[:4], torch.ones(4).double(), pairs)
    assert torch.equal(two.value, y_D[:4])
    variance_D = torch.where(torch.arange(SPACE.size) < 3, 0.0, 1e9).double()
    mixed = shrunk(JamesStein(grouping="all"), y_D, variance_D, SPACE)
    assert torch.equal(mixed.value[:3], y_D[:3])
    assert bool((mixed.value[3:] == 0).all())


@pytest.mark.parametrize("size", [0.0, 2.0, 20.0])
def test_james_stein_is_never_worse_than_the_raw_vector_in_three_dimensions_or_more(size):
    """Stein's law, on a fixed mean of five coordinates; 1500 draws, never 3 standard errors
    above (a false alarm in 0.1%, and the seed is fixed)."""
    mean_D = torch.full((5,), size / 5**0.5).double()
    error, raw, standard_error = risks(JamesStein(), mean_D, std=1.0)
    assert error < raw + 3 * standard_error
    if size <= 2.0:
        assert error < 0.9 * raw


def test_under_a_normal_prior_the_risk_is_below_the_known_one():
    """v·(n − (n − 2)·v/(τ² + v)) with n = 50, τ = 0.5, v = 1: 11.6 against 50 raw. A mean over
    200 means of the prior, 20 draws each, to 3 standard errors (seeds are fixed)."""
    n, tau2 = 50, 0.25
    known = n - (n - 2) / (tau2 + 1)
    means = tau2**0.5 * normal(200, n, seed=9)
    found = torch.tensor(
        [risks(JamesStein(), mean, 1.0, seed=t, draws=20)[0] for t, mean in enumerate(means)]
    )
    assert float(found.mean()) < known + 3 * float(found.std()) / 200**0.5
    assert float(found.mean()) > n * tau2 / (tau2 + 1)  # the Bayes estimator's, which knows τ


@given(st.integers(0, 1000), st.floats(0, 3), st.floats(0.01, 10))
def test_soft_thresholding_moves_every_coordinate_by_the_threshold_or_to_zero(seed, cut, std):
    y_D = normal(SPACE.size, seed=seed)
    variance_D = torch.full_like(y_D, std**2)
    out_D = shrunk(SoftThreshold(threshold=cut), y_D, variance_D, SPACE).value
    torch.testing.assert_close((y_D - out_D).abs(), y_D.abs().clamp(max=cut * std))
    assert bool((out_D * y_D >= 0).all())


def test_the_universal_threshold_erases_pure_noise_and_pays_on_a_sparse_mean():
    """512 coordinates, 8 of them at 6 deviations. Of pure noise all but 3% goes; the sparse
    mean's error falls by more than half (fixed seeds)."""
    zero_D, sparse_D = torch.zeros(512).double(), torch.zeros(512).double()
    sparse_D[:8] = 6.0
    error, raw, _ = risks(SoftThreshold(), zero_D, std=1.0, draws=200)
    assert error < 0.03 * raw
    error, raw, _ = risks(SoftThreshold(), sparse_D, std=1.0, draws=200)
    assert error < 0.5 * raw
    y_D = normal(512, seed=0)
    universal = shrunk(SoftThreshold(), y_D, torch.ones(512).double(), Space.flat("all", 512))
    known = math.sqrt(2 * math.log(512))
    torch.testing.assert_close(universal.value, y_D.sign() * (y_D.abs() - known).clamp(min=0))


def test_on_a_dense_mean_soft_thresholding_is_worse_than_nothing():
    """What the documentation warns of: all coordinates at 2 deviations."""
    error, raw, _ = risks(SoftThreshold(), torch.full((512,), 2.0).double(), 1.0, draws=50)
    assert error > 2 * raw


@pytest.mark.parametrize("threshold", [-1.0, math.inf, "most"])
def test_a_threshold_out_of_range_is_named(threshold):
    with pytest.raises(GrammarError, match=r"soft-threshold\.threshold"):
        SoftThreshold(threshold=threshold)
