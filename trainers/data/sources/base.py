"""Sources: what gives records by index, wherever they lie; and the trees that they give.

A source has a length and `read`. It gives the same record for the same index every time, and is
read by index only: tensors in memory, NumPy arrays and memory maps, the items of a map-style
dataset. Nothing here looks at a record that was not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from dpigu.dpcore.errors import DataError, DpiguError
from dpigu.trainers.engines.records import Tree, count_of
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

Indices = NDArray[np.int64]
Shapes = Any
"""The shape of one record: a tuple of whole numbers, or a tuple or dict of shapes."""
NONE: Indices = np.empty(0, dtype=np.int64)


class Source(Protocol):
    """Records by index."""

    def __len__(self) -> int:
        """How many there are; private for a training split."""
        ...

    def read(self, at: Indices) -> tuple[Tree, Tree]:
        """Inputs and targets of these records, trees of tensors B × … each, in this order.

        No index gives 0 × … of the shapes and dtypes that every record has.

        Errors: `DataError` for a record of another shape; it tells nothing of the record.
        """
        ...


@dataclass(frozen=True, eq=False)
class Tensors:
    """Records in memory.

    Args:
        x, y: inputs and targets, trees of tensors N × … each.
    """

    x: Tree = field(repr=False)
    y: Tree = field(repr=False)

    def __len__(self) -> int:
        return count_of(self.x)

    def read(self, at: Indices) -> tuple[Tree, Tree]:
        def taken(v_N: Tensor) -> Tensor:
            return v_N[torch.from_numpy(at).to(v_N.device)]

        return tree_map(taken, self.x), tree_map(taken, self.y)


@dataclass(frozen=True, eq=False)
class Arrays:
    """Records in NumPy arrays, which may be memory maps larger than memory.

    Args:
        x, y: trees of arrays N × … each.
        inputs, targets: from a batch of an array to a tensor: a fixed scaling, a type.
    """

    x: Tree = field(repr=False)
    y: Tree = field(repr=False)
    inputs: Callable[[NDArray[Any]], Tensor] = torch.from_numpy
    targets: Callable[[NDArray[Any]], Tensor] = torch.from_numpy

    def __len__(self) -> int:
        return count_of(self.x)

    def read(self, at: Indices) -> tuple[Tree, Tree]:
        def taken(make: Callable[[NDArray[Any]], Tensor]) -> Callable[[NDArray[Any]], Tensor]:
            return lambda v_N: make(np.ascontiguousarray(v_N[at]))

        return tree_map(taken(self.inputs), self.x), tree_map(taken(self.targets), self.y)


@dataclass(frozen=True, eq=False)
class Items:
    """The items of anything with a length and indexing: a map-style dataset, a list of records.

    Args:
        dataset: `dataset[i]`, or `dataset.__getitems__([i, …])` where it has that.
        record: from an item to its input and target, trees of tensors without a batch.
        form: an input and a target, 0 × …, of the declared shapes and dtypes.
        name: of the split, for errors.
    """

    dataset: Any = field(repr=False)
    record: Callable[[Any], tuple[Tree, Tree]]
    form: tuple[Tree, Tree] = field(repr=False)
    name: str = "data"

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, at: Indices) -> tuple[Tree, Tree]:
        if not len(at):
            return self.form
        try:
            fetch = getattr(self.dataset, "__getitems__", None)
            asked = at.tolist()
            items = fetch(asked) if fetch is not None else [self.dataset[i] for i in asked]
            records = [self.record(item) for item in items]
        except DpiguError:
            raise
        except Exception as error:  # whatever a user's data set raises
            raise DataError(
                f"a record cannot be read: {type(error).__name__}",
                where=self.name,
                remedy="Let the data set give every record that its length promises, as its first "
                "held-out one is.",
            ) from error
        wanted = tree_flatten(self.form)
        flat = []
        for found in records:
            leaves, structure = tree_flatten(found)
            if structure != wanted[1] or any(
                leaf.shape != v.shape[1:] or leaf.dtype != v.dtype
                for leaf, v in zip(leaves, wanted[0], strict=True)
            ):
                raise DataError(
                    "a record has another shape or type than the first held-out one",
                    where=self.name,
                    expected=forms_of(self.form[0]),
                    remedy="Bring every record to one shape; sequences to one length with pad_to.",
                )
            flat.append(leaves)
        stacked = [torch.stack(column) for column in zip(*flat, strict=True)]
        both: tuple[Tree, Tree] = tree_unflatten(stacked, wanted[1])
        return both


def form_of(source: Source) -> tuple[Tree, Tree]:
    """An input and a target, 0 × …: shapes and dtypes, and no record."""
    return source.read(NONE)


def shapes_of(tree_B: Tree) -> Shapes:
    """The shape of one record in a tree of tensors B × …."""
    return tree_map(lambda v: tuple(v.shape[1:]), tree_B)


def forms_of(tree_B: Tree) -> str:
    """Shapes and dtypes of one record, for a reader."""
    leaves = [f"{tuple(v.shape[1:])} {str(v.dtype)[6:]}" for v in tree_leaves(tree_B)]
    return ", ".join(leaves)


def pieces(length: int, size: int) -> Iterator[Indices]:
    """The indices of all records, `size` at a time."""
    for start in range(0, length, size):
        yield np.arange(start, min(start + size, length))


def bytes_of(tree_B: Tree) -> int:
    """How many bytes a tree of tensors holds."""
    return sum(v.numel() * v.element_size() for v in tree_leaves(tree_B))


def is_shape(shapes: Shapes) -> bool:
    """Whether it is the shape of one tensor, and not a tree of shapes."""
    return isinstance(shapes, tuple | list) and all(isinstance(n, int) for n in shapes)
