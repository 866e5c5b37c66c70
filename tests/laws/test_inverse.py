"""Inverse: restorer ∘ standardizer is the identity on the support, to rounding.

|restored − g| ≤ 32 u (|g| + |α|), u the unit roundoff of the row's type and α the shift in the
gradient's unit, for every state that releases of size up to 10¹⁵ can reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dpigu.dpcore import AffineRowMap, PhaseContext, Release, RowMap, State
from dpigu.dpcore.grammar.stages import name_of
from dpigu.dpcore.grammar.values import View
from dpigu.mechanisms import AffineRestorer
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.laws.stage_steps import minted, release_of
from tests.support.laws.strategies import SPACE, registered, stages

pytestmark = pytest.mark.numerical

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}
LARGEST = 1e15


@st.composite
def releases(draw: Any) -> Release:
    """A release of any size, some of it frozen, with any noise variance."""
    numbers = np.random.default_rng(draw(st.integers(0, 999)))
    scale = draw(st.sampled_from((0.0, 1e-12, 1.0, LARGEST)))
    value_D = torch.from_numpy(np.clip(scale * numbers.standard_normal(24), -LARGEST, LARGEST))
    variance = draw(st.sampled_from((0.0, 1e-20, 1.0, 1e20)))
    support_D = torch.from_numpy(numbers.random(24) < draw(st.sampled_from((0.3, 1.0))))
    return release_of(value_D, torch.full((24,), variance).double(), support_D)


def reached(stage: Any, steps: list[Release]) -> State:
    """The state that these releases lead to."""
    state = stage.init(PhaseContext(SPACE, torch.zeros(24).double(), len(steps) + 1, 0), {})
    for release in steps:
        state = stage.update(state, release, {})
    return state


def law_restoring_inverts(stage: Any, restorer: Any, state: State, g_D: Tensor) -> None:
    """apply(row(g)) = g, and the variance is that of the same map."""
    z_D = stage.row(state, g_D)
    assert z_D.dtype == g_D.dtype
    released = minted().derive(z_D.double(), torch.ones(24).double())
    back = restorer.apply({}, released, {restorer.of: View(stage, state)})
    weight_D, shift_D = stage.affine(state).dense()
    alpha_D = shift_D / weight_D
    allowed_D = 32 * UNIT[g_D.dtype] * (g_D.double().abs() + alpha_D.abs()) + 1e-37
    assert bool(((back.value - g_D.double()).abs() <= allowed_D).all())
    torch.testing.assert_close(back.variance, weight_D**-2, rtol=1e-12, atol=0.0)


def law_a_row_is_its_declared_map(stage: Any, state: State, g_D: Tensor) -> None:
    """row(g) = weight ⊙ g − shift, the map that the fast engine and the restorer use."""
    weight_D, shift_D = stage.affine(state).dense()
    want_D = weight_D * g_D.double() - shift_D
    allowed_D = 8 * UNIT[g_D.dtype] * ((weight_D * g_D.double()).abs() + shift_D.abs()) + 1e-37
    assert bool(((stage.row(state, g_D).double() - want_D).abs() <= allowed_D).all())


AFFINE = stages("row").filter(lambda stage: isinstance(stage, AffineRowMap))
ROWS = st.builds(
    lambda seed, scale, dtype: torch.from_numpy(
        scale * np.random.default_rng(seed).standard_normal(24)
    ).to(dtype),
    st.integers(0, 999),
    st.sampled_from((0.0, 1e-15, 1.0, 1e15)),
    st.sampled_from((torch.float64, torch.float32)),
)


@given(stage=AFFINE, steps=st.lists(releases(), max_size=5), g_D=ROWS)
def test_restoring_inverts_standardizing(stage: Any, steps: list[Release], g_D: Tensor) -> None:
    state = reached(stage, steps)
    law_restoring_inverts(stage, AffineRestorer(of=name_of(stage)), state, g_D)


@given(stage=AFFINE, steps=st.lists(releases(), max_size=5), g_D=ROWS)
def test_a_row_is_its_declared_map(stage: Any, steps: list[Release], g_D: Tensor) -> None:
    law_a_row_is_its_declared_map(stage, reached(stage, steps), g_D)


def test_every_standardizer_is_affine() -> None:
    """So that the two laws above reach them all; a sparsifier has no inverse."""
    names = {name_of(cls) for cls in registered("row") if issubclass(cls, RowMap)}
    affine = {name_of(cls) for cls in registered("row") if hasattr(cls, "affine")}
    assert {name for name in names if "standardizer" in name} <= affine
