"""A support chosen by names: whole parameters, and only those."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import Clock, GrammarError, Space
from dpigu.mechanisms import NamedLayers
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context

NAMES = st.lists(st.sampled_from(SPACE.names), unique=True)


def live(stage, space=SPACE):
    """The names of the parameters that are live; each wholly or not at all."""
    support_D = stage.support(stage.init(context(space), {}), Clock(0, 1))
    found = []
    for name, at, _ in space.blocks():
        assert support_D[at].unique().numel() == 1
        found += [name] if bool(support_D[at].all()) else []
    return found


@pytest.mark.parametrize(
    ("last", "expected"), [(1, ["two.weight"]), (2, list(SPACE.names)), (9, list(SPACE.names))]
)
def test_the_last_layers_are_the_last_modules_with_all_their_parameters(last, expected):
    assert live(NamedLayers(last=last)) == expected


@given(NAMES, st.integers(0, 2))
def test_names_and_last_layers_add_up(names, last):
    if not names and not last:
        return
    tail = {0: [], 1: ["two.weight"], 2: list(SPACE.names)}[last]
    expected = [name for name in SPACE.names if name in tail or name in names]
    assert live(NamedLayers(last=last, names=tuple(names))) == expected


def test_names_are_patterns():
    assert live(NamedLayers(last=0, names=("*.weight",))) == ["one.weight", "two.weight"]
    assert live(NamedLayers(last=0, names=("one.*",))) == ["one.weight", "one.bias"]


def test_a_model_that_is_one_module_is_its_own_last_layer():
    space = Space(("weight", "bias"), ((2, 3), (2,)))
    assert live(NamedLayers(), space) == ["weight", "bias"]


def test_nothing_live_is_an_error_that_lists_the_names():
    with pytest.raises(GrammarError, match=r"no parameter is live.*one\.weight, one\.bias"):
        live(NamedLayers(last=0))
    with pytest.raises(GrammarError, match=r"matches no parameter \(got \['three\.\*'\]"):
        live(NamedLayers(names=("one.*", "three.*")))
    with pytest.raises(GrammarError, match=r"named-layers\.last"):
        NamedLayers(last=-1)


def test_the_support_follows_the_device_and_is_boolean():
    state = NamedLayers().init(context(SPACE), {})
    assert state["support_D"].dtype == torch.bool and len(state["support_D"]) == SPACE.size
