"""What every split must be, whether it was read from a file or made in Python.

Messages about a training split name what was declared, and never a value or a place that was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from dpigu.dpcore.errors import DataError
from torch import Tensor

if TYPE_CHECKING:
    from dpigu.trainers.data.dataset import DataSpec


def check_split(spec: DataSpec, split: str, x: Tensor, y: Tensor) -> None:
    """Raise unless a split is what the spec declares; never with a value that was found."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        problem, got = "a split is two tensors", f"{type(x).__name__}, {type(y).__name__}"
        raise wrong(spec, split, problem, "Make them with torch.as_tensor.", got)
    if x.ndim < 2 or tuple(x.shape[1:]) != tuple(spec.shape):
        problem, expected = "the shape of a record is wrong", spec.shape or "(width,)"
        raise wrong(spec, split, problem, got=tuple(x.shape[1:]), expected=expected)
    if not x.is_floating_point():
        problem = "the inputs have the wrong type"
        raise wrong(spec, split, problem, "Scale them to floats.", str(x.dtype), "a float")
    if y.ndim != 1 or y.dtype != torch.int64:
        problem, got = "the labels are not one integer for each record", f"{y.dtype}, {y.ndim} axes"
        raise wrong(spec, split, problem, got=got, expected="int64, 1 axis")
    if len(x) != len(y):
        raise wrong(spec, split, "the numbers of inputs and labels differ")
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= spec.classes):
        problem = f"a {split} label lies outside 0…{spec.classes - 1}"
        remedy = "Mend the labels, or declare the number of classes that there are."
        raise wrong(spec, split, problem, remedy)
    if not bool(torch.isfinite(x).all()):
        problem = f"a {split} input is not finite as {str(x.dtype).removeprefix('torch.')}"
        raise wrong(spec, split, problem, "Mend the inputs or leave such out.")


def wrong(
    spec: DataSpec,
    split: str,
    problem: str,
    remedy: str = "",
    got: object = None,
    expected: object = None,
) -> DataError:
    """The error about a split of a data set."""
    where = f"{spec.name}, {split} split"
    return DataError(problem, where=where, got=got, expected=expected, remedy=remedy)
