"""Splits that share a record are refused: in any order, with any label, however few they are."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dpigu.dpcore import Plan
from dpigu.dpcore.errors import DataError
from dpigu.trainers import Data, DataSpec, Scaling, Settings, Tensors, train
from dpigu.trainers.data.overlap import record_fingerprints, refuse_shared
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.law_data import RECORDS

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


test_one_shared_record_is_enough = given(**SHARED)(law_one_shared_record_is_enough)


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
