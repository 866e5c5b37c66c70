"""What every split must be, whether it was read from a file or made in Python.

Messages about a training split name what was declared, and never a value or a place that was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from dpigu.dpcore.errors import DataError
from dpigu.trainers.data.sources import is_shape, shapes_of
from torch import Tensor
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from dpigu.trainers.data.dataset import DataSpec

RELABEL = "Mend the labels, or declare the number of classes that there are."
FILL = "Put a constant of your choice in their place, never a mean of the training records."


def check_split(spec: DataSpec, split: str, x: Any, y: Any) -> None:
    """Raise unless records (trees, N × …) are what the spec declares; never with a found value."""
    leaves, targets = tree_leaves(x), tree_leaves(y)
    if not leaves or not targets or not all(isinstance(v, Tensor) for v in (*leaves, *targets)):
        problem = "a split is two tensors, or two trees of tensors"
        got = f"{type(x).__name__}, {type(y).__name__}"
        raise wrong(spec, split, problem, "Make them with torch.as_tensor, or data_from.", got)
    lone = isinstance(x, Tensor)
    if any(v.ndim < 1 + lone for v in leaves) or not _same(shapes_of(x), spec.shape):
        problem, expected = "the shape of a record is wrong", spec.shape or "(width,)"
        raise wrong(spec, split, problem, got=shapes_of(x), expected=expected)
    if any(v.is_complex() for v in (*leaves, *targets)):
        problem = "the inputs have the wrong type"
        raise wrong(spec, split, problem, got="complex", expected="floats, integers or booleans")
    _check_targets(spec, split, y)
    if len({len(v) for v in (*leaves, *targets)}) > 1:
        raise wrong(spec, split, "the numbers of inputs and labels differ")
    for v in leaves:
        if not bool(torch.isfinite(v).all()):
            problem = f"a {split} input is not finite as {str(v.dtype).removeprefix('torch.')}"
            raise wrong(spec, split, problem, FILL)


def _check_targets(spec: DataSpec, split: str, y: Any) -> None:
    """An error for targets that the task does not take, and for weights out of bounds."""
    if spec.weight_bound is not None:
        y = _weighed(spec, split, y, spec.weight_bound)
    if not isinstance(y, Tensor) and spec.task.name != "other":
        problem = "the targets of a record are not one tensor"
        raise wrong(spec, split, problem, got=type(y).__name__, expected="a tensor")
    if (found := spec.task.targets(y, spec.classes)) is not None:
        what, got, expected = found
        named = what.replace("a ", f"a {split} ", 1) if what.startswith("a ") else what
        remedy = RELABEL if "outside" in what else ""
        raise wrong(spec, split, named, remedy, got or None, expected or None)
    if not _same(shapes_of(y), spec.target):
        what = "the shape of a record's targets is wrong"
        raise wrong(spec, split, what, got=shapes_of(y), expected=spec.target)


def _weighed(spec: DataSpec, split: str, y: Any, bound: float) -> Any:
    """The targets beside the weights of records, which lie within the declared bound."""
    if not isinstance(y, tuple) or len(y) != 2 or not isinstance(y[1], Tensor):
        problem = "the records have no weights, and a bound for them is declared"
        raise wrong(spec, split, problem, "Give (inputs, targets, weights).")
    weight_N = y[1]
    if weight_N.ndim != 1 or not weight_N.is_floating_point():
        problem = "the weights are not one float for each record"
        raise wrong(spec, split, problem, got=f"{weight_N.dtype}, {weight_N.ndim} axes")
    if not bool(((weight_N >= 0) & (weight_N <= bound)).all()):
        remedy = "Mend the weights, or declare the bound that they keep: weight_bound."
        raise wrong(spec, split, f"a {split} weight lies outside 0…{bound:g}", remedy)
    return y[0]


def _same(shapes: Any, declared: Any) -> bool:
    """Whether two trees of shapes are one, lists read as tuples."""
    if is_shape(shapes) and is_shape(declared):
        return tuple(shapes) == tuple(declared)
    if isinstance(shapes, dict) and isinstance(declared, dict):
        known = shapes.keys() == declared.keys()
        return known and all(_same(shapes[key], declared[key]) for key in shapes)
    both = isinstance(shapes, tuple | list) and isinstance(declared, tuple | list)
    return both and len(shapes) == len(declared) and all(map(_same, shapes, declared))


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
