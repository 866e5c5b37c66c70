"""Splits that share a record are refused: in any order, with any label, however few they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from dpigu.dpcore import Plan
from dpigu.dpcore.errors import DataError
from dpigu.trainers import Data, DataSpec, Scaling, Settings, Tensors, data_from, train
from dpigu.trainers.data.overlap import record_fingerprints, refuse_shared
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.laws.data import RECORDS

PLACES = st.integers(0, 39)
SHARED = {"split": st.sampled_from(["held-out", "public"]), "ours": PLACES, "theirs": PLACES}


def law_one_shared_record_is_enough(split: str, ours: int, theirs: int) -> None:
    """Wherever it stands on either side; and the message tells no number."""
    train_x, other_x = points(0), points(1)
    sides = {"held-out": (other_x, points(2)), "public": (points(2), other_x)}[split]
    refuse_shared(splits(train_x, sides[0]), splits(sides[1], points(3)))
    other_x[theirs] = train_x[ours]
    said = ""
    try:
        refuse_shared(splits(train_x, sides[0]), splits(sides[1], points(3)))
    except DataError as refused:
        said = str(refused)
    assert f"the {split} split shares records" in said
    assert not any(character.isdigit() for character in said)


@given(**SHARED)
def test_one_shared_record_is_enough(split: str, ours: int, theirs: int) -> None:
    law_one_shared_record_is_enough(split, ours, theirs)


@given(PLACES, st.permutations(range(40)))
def test_common_inputs_are_of_nobody_but_a_split_is_not_the_other_one(
    at: int, order: list[int]
) -> None:
    """By the owner's word: one equal input says nothing; all of them, in any order, do."""
    train_x, test_x = points(0), points(1)
    test_x[at] = train_x[order[at]]
    refuse_shared(with_word(splits(train_x, test_x)), None)
    with pytest.raises(DataError, match="the held-out split is the training split") as refused:
        refuse_shared(with_word(splits(train_x, train_x[order])), None)
    assert not any(character.isdigit() for character in str(refused.value))


def test_no_word_lets_training_records_into_public_ones() -> None:
    """Stages learn from public records without noise, so one shared input is refused as ever."""
    train_x, public_x = points(0), points(2)
    public_x[5] = train_x[7]
    private = with_word(splits(train_x, points(1)))
    with pytest.raises(DataError, match="the public split shares records"):
        refuse_shared(private, splits(public_x, points(3)))
    refuse_shared(private, splits(points(2), points(3)))


def test_whose_a_record_is_settles_it_where_that_is_known() -> None:
    """The same inputs of other people pass; other inputs of the same person do not."""
    draw = {"records": 40, "classes": 2, "units": np.arange(40), "records_per_unit": 1}
    y = torch.zeros(40, dtype=torch.int64)

    def data(test_x: Tensor, **held_out: object) -> Data:
        return data_from(train=(points(0), y), test=(test_x, y), **draw, **held_out)

    refuse_shared(data(points(0), test_units=np.arange(40, 80)), None)
    with pytest.raises(DataError, match="a unit has records in the training and"):
        refuse_shared(data(points(1), test_units=np.arange(39, 79)), None)
    with pytest.raises(DataError, match="shares records"):
        refuse_shared(data(points(0)), None)


def with_word(data: Data) -> Data:
    return dataclasses.replace(data, spec=dataclasses.replace(data.spec, common_inputs=True))


def points(seed: int) -> Tensor:
    return torch.randn(40, 2, generator=torch.Generator().manual_seed(seed))


def splits(train_x: Tensor, test_x: Tensor) -> Data:
    y = torch.zeros(40, dtype=torch.int64)
    return Data(
        DataSpec("points", 40, 2, (2,), Scaling()), Tensors(train_x, y), Tensors(test_x, 1 - y)
    )


def test_a_zero_has_no_sign() -> None:
    x = torch.tensor([[0.0, 1.0]])
    assert record_fingerprints(b"k", x) == record_fingerprints(b"k", torch.tensor([[-0.0, 1.0]]))


def test_fingerprints_depend_on_the_key() -> None:
    assert (record_fingerprints(b"a", points(0)) != record_fingerprints(b"b", points(0))).all()


@pytest.mark.parametrize("shared", [slice(0, 1), slice(0, RECORDS)], ids=["one", "all"])
def test_training_refuses_before_anything_is_spent(
    plan: Plan, data: Data, settings: Settings, shared: slice, tmp_path
) -> None:
    x, y = data.train_x[shared].flip(0), data.train_y[shared].flip(0)
    leaky = dataclasses.replace(data, test=Tensors(x, y))
    with pytest.raises(DataError, match="held-out split shares records"):
        train(plan, leaky, nn.Linear(2, 2), settings, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_needs_a_held_out_record(plan: Plan, data: Data, settings: Settings) -> None:
    nothing = dataclasses.replace(data, test=Tensors(data.test_x[:0], data.test_y[:0]))
    with pytest.raises(DataError, match="no held-out record"):
        train(plan, nothing, nn.Linear(2, 2), settings, progress=False)
