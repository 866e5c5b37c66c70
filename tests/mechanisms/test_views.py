"""Views: every pixel comes from the record, within the shift, and nothing else moves."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import GrammarError
from dpigu.mechanisms.views import ShiftFlip
from hypothesis import given
from hypothesis import strategies as st

IMAGES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))


def shifted(x: torch.Tensor, down: int, right: int, mirrored: bool) -> torch.Tensor:
    """The reference: a shift with repeated edges, pixel by pixel, then the mirror."""
    height, width = x.shape[-2:]
    rows = [min(max(i + down, 0), height - 1) for i in range(height)]
    columns = [min(max(j + right, 0), width - 1) for j in range(width)]
    moved = x[:, rows][:, :, columns]
    return moved.flip(-1) if mirrored else moved


@given(shape=IMAGES, shift=st.integers(0, 3), flip=st.booleans(), seed=st.integers(0, 99))
def test_every_view_is_a_shift_of_the_record_perhaps_mirrored(shape, shift, flip, seed):
    stage = ShiftFlip(count=3, shift=shift, flip=flip)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        views = stage.views(x)
    steps = range(-shift, shift + 1)
    mirrors = (False, True) if flip else (False,)
    allowed = [shifted(x, d, r, m) for d in steps for r in steps for m in mirrors]
    for view in views:
        assert any(torch.equal(view, one) for one in allowed)


def test_shifts_are_uniform_in_both_directions():
    """5,000 views; each of 25 shifts is within 5 standard deviations of 200, so this fails by
    chance less than once in 50,000 times; the seed is fixed."""
    x = torch.arange(81.0).reshape(1, 9, 9)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        views = ShiftFlip(count=5_000, shift=2).views(x)
    counts = views[:, 0, 4, 4].long().bincount(minlength=81)
    assert int((counts > 0).sum()) == 25
    spread = (5_000 * (1 / 25) * (24 / 25)) ** 0.5
    assert bool(((counts[counts > 0] - 200).abs() < 5 * spread).all())


def test_half_of_the_views_are_mirrored():
    """1,000 coins; 5 standard deviations; the seed is fixed."""
    x = torch.tensor([[[1.0, 2.0]]])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        views = ShiftFlip(count=1_000, shift=0, flip=True).views(x)
    assert abs(float((views[:, 0, 0, 0] == 2).sum()) - 500) < 5 * 250**0.5


@pytest.mark.parametrize("options", [{"count": 0}, {"shift": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(GrammarError):
        ShiftFlip(**options)
