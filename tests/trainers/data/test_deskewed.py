"""Deskewed pictures stand upright in the middle, and each is made from one record alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dpigu.dpcore import DataError
from dpigu.trainers.data.features.deskewed import Deskewed, DeskewedScattering
from dpigu.trainers.data.features.even import Even
from dpigu.trainers.data.features.registry import FEATURES
from dpigu.trainers.data.features.scattering import Scattering, scattering_shape
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

SHAPE = (1, 29, 33)
SMALL = st.floats(-0.5, 0.5)
FEW = st.floats(-4.0, 4.0)


def stroke(slant: float, down: float, right: float) -> Tensor:
    """A tall smooth stroke, sheared by `slant` and moved, in float64: 1 × C × H × W."""
    i = torch.arange(SHAPE[1], dtype=torch.float64)[:, None] - (SHAPE[1] - 1) / 2 - down
    j = torch.arange(SHAPE[2], dtype=torch.float64) - (SHAPE[2] - 1) / 2 - right
    return torch.exp(-((i / 4).square() + ((j - slant * i) / 2).square()) / 2)[None, None]


@given(SMALL, FEW, FEW)
def test_a_sheared_and_moved_stroke_comes_back_upright(
    slant: float, down: float, right: float
) -> None:
    found = Deskewed(SHAPE)(stroke(slant, down, right))
    torch.testing.assert_close(found, stroke(0, 0, 0), rtol=0, atol=0.06)  # bilinear, width 2


@given(st.integers(0, 2**31 - 1), st.floats(0.1, 10), st.floats(-5, 5))
def test_brightness_and_contrast_do_not_matter(seed: int, contrast: float, level: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, 9, 8, generator=draw, dtype=torch.float64)
    upright = Deskewed((3, 9, 8))
    torch.testing.assert_close(upright(contrast * x + level), contrast * upright(x) + level)


@given(st.integers(0, 2**31 - 1))
def test_a_picture_is_of_its_own_record_alone(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(5, 1, 8, 8, generator=draw)
    upright = Deskewed((1, 8, 8))
    for at in range(5):
        torch.testing.assert_close(upright(x)[at], upright(x[at : at + 1])[0])


def test_a_picture_without_ink_stays_as_it_is() -> None:
    blank = torch.full((1, 2, 6, 6), -0.7)
    assert torch.equal(Deskewed((2, 6, 6))(blank), blank)


def test_deskewed_scattering_stands_beside_that_of_the_picture_as_it_is() -> None:
    shape = (1, 8, 12)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    found = DeskewedScattering(shape)(x)
    assert FEATURES["deskewed-scattering"].shape(shape) == tuple(found.shape[1:])
    for half, picture in zip(found.chunk(2, 1), (x, Deskewed(shape)(x)), strict=True):
        want = Even(scattering_shape(shape))(Scattering(shape)(picture))
        torch.testing.assert_close(half * 2**0.5, want)


@pytest.mark.parametrize("part", ["scattering", "even-scattering"])
def test_kept_features_are_of_the_versions_of_their_parts(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = FEATURES["deskewed-scattering"].label
    newer = replace(FEATURES[part], version=FEATURES[part].version + 1)
    monkeypatch.setitem(FEATURES, part, newer)  # type: ignore[arg-type]
    assert FEATURES["deskewed-scattering"].label != before


@pytest.mark.parametrize("shape", [(64,), (8, 8)])
def test_records_that_are_no_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="only pictures can be deskewed"):
        Deskewed(shape)
