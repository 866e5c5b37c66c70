"""Spaces split and join without loss, groups partition them, and only the kernel mints."""

from __future__ import annotations

import math

import pytest
import torch
from dpigu.dpcore import Bounded, GrammarError, PrivacyError, Released, Space
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import minted

pytestmark = pytest.mark.numerical

SHAPES = st.lists(
    st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple), min_size=1, max_size=6
)
GROUPINGS = ["all", "parameter", "layer", "filter"]


def space_of(shapes):
    """Two blocks a layer: layer0.weight, layer0.bias, layer1.weight, …"""
    names = (f"layer{i // 2}.{('weight', 'bias')[i % 2]}" for i in range(len(shapes)))
    return Space(tuple(names), tuple(shapes))


@given(SHAPES, st.lists(st.integers(1, 3), max_size=2))
def test_join_inverts_split(shapes, lead):
    space = space_of(shapes)
    vector = torch.arange(math.prod(lead) * space.size).reshape(*lead, space.size)
    parts = space.split(vector)
    assert [tuple(t.shape) for t in parts.values()] == [(*lead, *shape) for shape in shapes]
    flat = [t.reshape(*lead, -1) for t in parts.values()]
    assert torch.equal(torch.cat(flat, dim=-1), vector)
    row = vector.reshape(-1, space.size)[-1]
    assert torch.equal(space.join(space.split(row)), row)


@given(SHAPES)
def test_split_inverts_join(shapes):
    tensors = {
        name: torch.arange(float(math.prod(shape))).reshape(shape) + 100 * i
        for i, (name, shape) in enumerate(zip(space_of(shapes).names, shapes, strict=True))
    }
    space = Space.of(tensors)
    assert space == space_of(shapes)
    parts = space.split(space.join(tensors))
    assert all(torch.equal(parts[name], tensors[name]) for name in tensors)


@given(SHAPES)
@pytest.mark.parametrize("by", GROUPINGS)
def test_groups_are_numbered_without_a_gap_and_cover_every_coordinate(by, shapes):
    space = space_of(shapes)
    groups_D = space.groups(by)
    assert len(groups_D) == space.size
    assert groups_D.unique().tolist() == list(range(space.group_count(by)))


@given(SHAPES)
def test_a_finer_grouping_splits_the_groups_of_a_coarser_one(shapes):
    space = space_of(shapes)
    for fine, coarse in (("filter", "parameter"), ("parameter", "layer"), ("layer", "all")):
        pairs = set(zip(space.groups(fine).tolist(), space.groups(coarse).tolist(), strict=True))
        assert len(pairs) == space.group_count(fine)


def test_the_groups_of_a_small_net():
    space = Space(("conv.weight", "conv.bias", "out.weight"), ((2, 1, 1, 2), (2,), (2, 1)))
    assert space.groups("all").tolist() == [0] * 8
    assert space.groups("parameter").tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert space.groups("layer").tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert space.groups("filter").tolist() == [0, 0, 1, 1, 2, 2, 3, 4]


def test_names_and_shapes_must_match():
    with pytest.raises(GrammarError, match=r"one shape for each name \(got 2 names, 1 shapes\)"):
        Space(("a", "b"), ((1,),))


@pytest.mark.parametrize("kind", [Released, Bounded])
@pytest.mark.parametrize("mint", [{}, {"_mint": None}, {"_mint": object()}, {"_mint": True}])
def test_only_the_kernel_mints(kind, mint):
    with pytest.raises(PrivacyError, match=f"only the kernel can make a {kind.__name__} value"):
        kind(torch.zeros(3), torch.zeros(3), **mint)


def test_a_released_value_is_derived_from_a_released_value_and_cannot_grow_attributes():
    derived = minted().derive(torch.ones(2), torch.zeros(2))
    assert isinstance(derived, Released) and torch.equal(derived.value, torch.ones(2))
    with pytest.raises(AttributeError):
        derived.note = "private"
    assert "7.25" not in repr(derived.derive(torch.full((3,), 7.25), torch.zeros(3)))
