"""Data made in Python is checked like a file, and no message shows what was found."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from dpigu.dpcore.errors import DataError
from dpigu.trainers import Data, DataSpec, Scaling, Tensors
from dpigu.trainers.data.checks import check_split
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor


def with_value(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x.view(-1)[7] = value
    return x


MISTAKES: dict[str, tuple[str, Any, str]] = {
    "an array": ("x", lambda x: x.numpy(), "a split is two tensors"),
    "labels in a list": ("y", lambda y: y.tolist(), "a split is two tensors"),
    "another shape": ("x", lambda x: x[:, :1], "the shape of a record is wrong"),
    "no axis of records": ("x", lambda x: x[0], "the shape of a record is wrong"),
    "complex numbers": ("x", lambda x: x.cfloat(), "the inputs have the wrong type"),
    "labels as floats": ("y", lambda y: y.float(), "not one integer for each record"),
    "one-hot labels": ("y", lambda y: y[:, None], "not one integer for each record"),
    "a label too large": ("y", lambda y: with_value(y, 2), "label lies outside 0…1"),
    "a label below 0": ("y", lambda y: with_value(y, -1), "label lies outside 0…1"),
    "an input is NaN": ("x", lambda x: with_value(x, float("nan")), "is not finite"),
    "an input is infinite": ("x", lambda x: with_value(x, float("inf")), "is not finite"),
    "a label missing": ("y", lambda y: y[:-1], "the numbers of inputs and labels differ"),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(data: Data, split: str, mistake: str) -> None:
    part, change, said = MISTAKES[mistake]
    source = getattr(data, split)
    changed = dataclasses.replace(source, **{part: change(getattr(source, part))})
    with pytest.raises(DataError, match=said) as refused:
        dataclasses.replace(data, **{split: changed})
    line = str(refused.value)
    assert "\n" not in line and {"train": "training", "test": "held-out"}[split] in line


def test_no_record_and_two_types_are_refused(data: Data) -> None:
    with pytest.raises(DataError, match="there is no record"):
        dataclasses.replace(data, train=Tensors(data.train_x[:0], data.train_y[:0]))
    with pytest.raises(DataError, match="differ in type"):
        dataclasses.replace(data, test=Tensors(data.test_x.double(), data.test_y))


@given(place=st.integers(0, 119), label=st.integers(2, 10**6))
def test_what_was_found_is_never_told(place: int, label: int) -> None:
    """The same line whatever label is wrong, and wherever it stands."""
    y = torch.zeros(120, dtype=torch.int64)
    y[place] = label
    spec = DataSpec("points", 120, 2, (2,), Scaling())
    with pytest.raises(DataError) as refused:
        check_split(spec, "training", torch.zeros(120, 2), y)
    assert str(refused.value) == (
        "points, training split: a training label lies outside 0…1. "
        "Mend the labels, or declare the number of classes that there are."
    )
