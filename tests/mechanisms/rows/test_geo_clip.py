"""GeoClip: the map has the least noise for its typical norm, and comes back."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import GrammarError, Space, View
from dpigu.mechanisms import GeoClip, GeoRestorer
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, minted, normal, release_of

pytestmark = pytest.mark.numerical

SIZE = 4
FOUR = Space.flat("four", SIZE)
DRAWN = {"seed": st.integers(0, 1000), "steps": st.integers(1, 4)}


def reached(stage, seed, steps):
    state = stage.init(context(FOUR), {})
    for t in range(steps):
        state = stage.update(state, release_of(normal(SIZE, seed=seed + t)), {})
    return state


def law_a_row_is_the_map_of_the_covariance(seed, steps):
    """M = Λ^−¼ Uᵀ (γ/Σλ^½)^½ of Σ, and tr(M Σ Mᵀ) = γ where no eigenvalue is clamped."""
    stage = GeoClip(decay=0.5, mean_decay=0.5, expected=3.0)
    state, g_D = reached(stage, seed, steps), normal(SIZE, seed=seed + 50)
    a_D, sigma_DD = torch.zeros(SIZE).double(), torch.eye(SIZE).double()
    for t in range(steps):
        r_D = normal(SIZE, seed=seed + t) - a_D
        sigma_DD, a_D = 0.5 * sigma_DD + 0.5 * torch.outer(r_D, r_D), a_D + 0.5 * r_D
    values_D, u_DD = torch.linalg.eigh(sigma_DD)
    m_DD = (3.0 / values_D.sqrt().sum()).sqrt() * torch.diag(values_D**-0.25) @ u_DD.T
    z_D = stage.row(state, g_D)
    torch.testing.assert_close(z_D.abs(), (m_DD @ (g_D - a_D)).abs())
    assert float(torch.trace(m_DD @ sigma_DD @ m_DD.T)) == pytest.approx(3.0)


test_a_row_is_the_map_of_the_covariance = given(**DRAWN)(law_a_row_is_the_map_of_the_covariance)


def test_no_other_map_of_that_typical_norm_has_less_noise_energy():
    """tr(M⁻¹ M⁻ᵀ) at tr(M Σ Mᵀ) = γ, against 200 random maps scaled to the same."""
    stage = GeoClip(decay=0.5)
    state = reached(stage, 7, 3)
    sigma_DD = state["covariance_DD"]
    m_DD = torch.diag(state["scales_D"]) @ state["axes_DD"].T
    energy = torch.linalg.inv(m_DD).square().sum()
    for seed in range(200):
        other_DD = m_DD @ torch.matrix_exp(0.3 * normal(SIZE, SIZE, seed=seed))
        other_DD = other_DD / torch.trace(other_DD @ sigma_DD @ other_DD.T).sqrt()
        assert float(energy) <= float(torch.linalg.inv(other_DD).square().sum()) * (1 + 1e-9)


@given(st.integers(0, 1000), st.integers(0, 4))
def test_restoring_inverts_it_and_knows_the_noise(seed, steps):
    stage, restorer = GeoClip(decay=0.9), GeoRestorer()
    state, g_D = reached(stage, seed, steps), normal(SIZE, seed=seed + 50)
    variance_D = normal(SIZE, seed=seed + 51).abs()
    reads = {"geo-clip": View(stage, state)}
    back = restorer.apply({}, minted().derive(stage.row(state, g_D), variance_D), reads)
    torch.testing.assert_close(back.value, g_D)
    inverse_DD = state["axes_DD"] / state["scales_D"]
    torch.testing.assert_close(
        back.variance, torch.diagonal(inverse_DD @ torch.diag(variance_D) @ inverse_DD.T)
    )


def test_too_many_coordinates_are_refused_in_one_line():
    with pytest.raises(GrammarError, match="covariance of so many coordinates is too large"):
        GeoClip().init(context(Space.flat("w", 5000)), {})
