"""Muon and Shampoo act on a matrix's singular directions, and on nothing but what was released."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import RunError, Space
from dpigu.trainers import Settings
from dpigu.trainers.optim.matrices import Muon, Shampoo, orthogonalised
from dpigu.trainers.settings import masked_step
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.laws.stage_steps import normal, release_of

pytestmark = pytest.mark.numerical

SHAPES = st.sampled_from([(3, 5), (5, 3), (4, 4), (1, 6), (6, 1)])


def matrix(shape, seed):
    return normal(*shape, seed=seed)


def stepped(optimizer, weight, gradients, variance=0.0, support=None):
    """The weight after these released gradients, each entry with noise of this variance."""
    space = Space.of({"w": weight})
    for g in gradients:
        noise_D = torch.full((weight.numel(),), variance, dtype=torch.float64)
        release = release_of(g.flatten(), noise_D, support)
        masked_step(optimizer, {"w": weight}, space, release)
    return weight.detach().clone()


@settings(max_examples=12)
@given(SHAPES, st.integers(0, 99), st.integers(1, 3))
def test_newton_schulz_maps_singular_values_and_leaves_their_vectors(shape, seed, iterations):
    """X = U p(…p(S/‖S‖)) Vᵀ with p(s) = a s + b s³ + c s⁵, by the singular values themselves."""
    m_RC = matrix(shape, seed)
    u, s, vt = torch.linalg.svd(m_RC, full_matrices=False)
    s = s / torch.linalg.vector_norm(s)
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonalised(m_RC, iterations), u @ torch.diag(s) @ vt)


@settings(max_examples=12)
@given(st.integers(0, 99))
def test_five_iterations_bring_singular_values_near_one_whatever_their_scale(seed):
    spread = torch.diag(torch.tensor([1.0, 0.3, 0.05, 0.02])).double()
    u, _, vt = torch.linalg.svd(matrix((4, 4), seed))
    for scale in (1e-6, 1.0, 1e6):
        s = torch.linalg.svdvals(orthogonalised(scale * u @ spread @ vt, 5))
        assert bool(((s > 0.5) & (s < 1.5)).all())


def test_nothing_released_moves_nothing():
    assert not orthogonalised(torch.zeros(3, 2), 5).any()


def law_a_step_of_muon_is_the_formula(shape, seed):
    gradients = [matrix(shape, seed + t) for t in range(3)]
    weight = nn.Parameter(matrix(shape, 100))
    want, m = weight.detach().clone(), torch.zeros(shape).double()
    for g in gradients:
        m = 0.9 * m + g + 0.1 * want
        want = want - 0.3 * max(1, shape[0] / shape[1]) ** 0.5 * orthogonalised(m, 5)
    found = stepped(Muon([weight], lr=0.3, momentum=0.9, weight_decay=0.1), weight, gradients)
    torch.testing.assert_close(found, want)


test_a_step_of_muon_is_the_formula = settings(max_examples=12)(
    given(SHAPES, st.integers(0, 99))(law_a_step_of_muon_is_the_formula)
)


def inverse_root(m_SS, power):
    values, vectors = torch.linalg.eigh(m_SS)
    return vectors @ torch.diag(values.clamp(min=1e-12) ** -power) @ vectors.T


@settings(max_examples=12)
@given(st.integers(0, 99))
def test_without_noise_shampoo_is_the_formula(seed):
    """L^−¼ m R^−¼, with the moving means corrected for their start at 0."""
    gradients = [matrix((2, 2), seed + t) for t in range(3)]
    weight = nn.Parameter(matrix((2, 2), 100))
    want, m, left, right = weight.detach().clone(), 0, 0, 0
    for t, g in enumerate(gradients, 1):
        m, left = 0.9 * m + 0.1 * g, 0.99 * left + 0.01 * g @ g.T
        right = 0.99 * right + 0.01 * g.T @ g
        bias = 1 - 0.99**t
        step = (
            inverse_root(left / bias, 0.25) @ (m / (1 - 0.9**t)) @ inverse_root(right / bias, 0.25)
        )
        want = want - 0.3 * step
    found = stepped(Shampoo([weight], lr=0.3, refresh=1), weight, gradients)
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-8)


def law_shampoo_learns_the_gradient_s_matrix_and_not_the_noise_s():
    """Of G + noise, 300 steps: L/(1 − β^t) is G Gᵀ within five standard errors of one step over
    the root of the steps that count; with the noise in it would be 12 more on the diagonal."""
    g_RC, deviation = torch.diag(torch.tensor([3.0, 1.0])).double() @ torch.ones(2, 3).double(), 2.0
    weight = nn.Parameter(torch.zeros(2, 3).double())
    optimizer = Shampoo([weight], lr=0.0, decay=0.999, refresh=300)
    noisy = [g_RC + deviation * matrix((2, 3), t) for t in range(300)]
    stepped(optimizer, weight, noisy, deviation**2)
    left = optimizer.state[weight]["left"].reshape(2, 2) / (1 - 0.999**300)
    one_step = (2 * 3 * deviation**4 + 4 * deviation**2 * (g_RC**2).sum(1).max()).sqrt()
    assert bool(((left - g_RC @ g_RC.T).abs() < 5 * one_step / 250**0.5).all())


test_shampoo_learns_the_gradient_s_matrix_and_not_the_noise_s = (
    law_shampoo_learns_the_gradient_s_matrix_and_not_the_noise_s
)


@pytest.mark.parametrize("make", [Muon, Shampoo])
@pytest.mark.parametrize("shape", [(4, 4), (3, 2, 2), (5,)])
def test_frozen_weights_stay_and_live_ones_move(make, shape):
    size = torch.Size(shape).numel()
    weight, support_D = nn.Parameter(matrix(shape, 1)), torch.arange(size) % 2 == 0
    before = weight.detach().clone().flatten()
    gradients = [matrix(shape, t) for t in range(3)]
    after = stepped(make([weight], lr=0.1), weight, gradients, 0.1, support_D).flatten()
    assert torch.equal(after[~support_D], before[~support_D])
    assert bool((after[support_D] != before[support_D]).all()) and bool(after.isfinite().all())


def test_shampoo_wants_to_know_the_noise():
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    with pytest.raises(RunError, match="variance of the noise is not known"):
        Shampoo([weight], lr=0.1).step()


@pytest.mark.parametrize(("name", "kind"), [("muon", Muon), ("shampoo", Shampoo)])
def test_the_settings_make_them(name, kind):
    weight = nn.Parameter(torch.zeros(2, 2))
    made = Settings(optimizer=name, learning_rate=0.3, momentum=0.5).factory()([weight])
    assert isinstance(made, kind)
    assert made.param_groups[0]["lr"] == 0.3 and made.param_groups[0]["momentum"] == 0.5
