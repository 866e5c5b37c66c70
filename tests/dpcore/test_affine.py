"""Diagonal affine maps: closed under composition, with or without a shift."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import Affine, Space, Transform
from dpigu.mechanisms import EmaStandardizer, GroupStandardizer
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

pytestmark = pytest.mark.numerical

SIZE = 7


@st.composite
def maps(draw: st.DrawFn) -> Affine:
    """Weights of either sign and 0, and a shift or none."""
    numbers = st.lists(st.sampled_from((-2.0, 0.0, 0.5, 3.0)), min_size=SIZE, max_size=SIZE)
    weight_D = torch.tensor(draw(numbers), dtype=torch.float64)
    shifted = draw(st.booleans())
    return Affine(weight_D, torch.tensor(draw(numbers), dtype=torch.float64) if shifted else None)


def applied(affine: Affine, g_D: Tensor) -> Tensor:
    weight_D, shift_D = affine.dense()
    return weight_D * g_D - shift_D


@given(first=maps(), second=maps(), seed=st.integers(0, 99))
def test_one_map_after_another_is_a_map(first: Affine, second: Affine, seed: int) -> None:
    """(second after first)(g) = second(first(g)), and there is a shift only if one has one."""
    g_D = torch.randn(SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    whole = second.after(first)
    torch.testing.assert_close(
        applied(whole, g_D), applied(second, applied(first, g_D)), rtol=1e-14, atol=1e-14
    )
    assert (whole.shift_D is None) == (first.shift_D is None and second.shift_D is None)


def test_what_never_centres_declares_no_shift() -> None:
    """So the fast engine knows it from the type alone, with any support; the paper's centres."""
    space = Space.of({"w": torch.zeros(SIZE)})
    ones_D = torch.ones(SIZE, dtype=torch.float64)
    scale = (GroupStandardizer(), {"weight_D": 2 * ones_D})
    centre = (EmaStandardizer(), {"alpha_D": ones_D, "beta_D": ones_D})
    support_D = torch.arange(SIZE) % 2 == 0
    cpu = torch.device("cpu")
    scaled = Transform(space, space, (scale, scale), support_D).affine(cpu)
    assert scaled is not None and scaled.shift_D is None
    assert torch.equal(scaled.weight_D, 4.0 * support_D)
    centred = Transform(space, space, (scale, centre), support_D).affine(cpu)
    assert centred is not None and bool((centred.dense()[1] != 0).equal(support_D))
