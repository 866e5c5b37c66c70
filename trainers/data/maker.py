"""Makes sources of what a user gave: columns, data sets and tables, one record at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from dpigu.dpcore.errors import DataError, DpiguError
from dpigu.trainers.data.sources import Arrays, Items, Source, Tensors
from dpigu.trainers.data.sources.columns import Columns, is_categories
from dpigu.trainers.data.sources.leaves import Inputs, target
from dpigu.trainers.data.sources.padding import Padding
from dpigu.trainers.data.sources.tables import is_table, read_table, table_split
from dpigu.trainers.engines.records import Tree
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

TARGETS = ("labels", "label")
"""What the target of a record is called, where it goes by name and nothing is said."""


class Parts(NamedTuple):
    """One split, or one record of it: inputs, targets, and weights if there are any."""

    x: Any
    y: Any
    weights: Any = None


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes a source of what a user gave, by what was declared; see `data_from`."""

    inputs: Inputs
    padding: Padding | None
    target: str | None
    keys: str | Sequence[str] | None
    columns: Columns
    own_tokens: bool
    weighted: bool
    owners: str | None = None

    def source(self, given: Any, name: str, form: tuple[Tree, Tree] | None) -> Source:
        """The records of a split.

        Args:
            form: of the held-out split; None for that split itself.
        """
        name = told_of(given, name)
        if is_table(given):
            words = [key for key, declared in self.columns.items() if is_categories(declared)]
            table = {k: v for k, v in read_table(given, words).items() if k != self.owners}
            held_out = form is None
            split = table_split(table, name, self.target, self.columns, public=held_out)
            return self._columns(Parts(*split), name, form)
        if isinstance(given, torch.utils.data.TensorDataset):
            given = given.tensors
        if is_dataset(given):
            return self._items(given, name, form)
        return self._columns(self.parts(given, name, is_column(given)), name, form)

    def parts(self, given: Any, name: str, alone: bool) -> Parts:
        """Inputs, targets and weights in a pair, a triple or a dict."""
        if isinstance(given, Mapping):
            given = self._named(given, name)
        elif alone and self.own_tokens:
            given = (given, given)
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise DataError(
                "records are (inputs, targets), or (inputs, targets, weights)",
                where=name,
                got=type(given).__name__,
                remedy="For a dict declare `target`; inputs are their own targets for causal-lm.",
            )
        parts = Parts(*given)
        if (parts.weights is not None) > self.weighted:
            raise DataError(
                "the records have weights, and no bound for them is declared",
                where=name,
                remedy="Declare the largest one: `weight_bound`.",
            )
        return parts

    def _named(self, given: Mapping[str, Any], name: str) -> tuple[Any, Any]:
        """The inputs and the target in a dict."""
        known = [key for key in given if key != self.owners]
        target = self.target or next((key for key in TARGETS if key in given), None)
        keys = [self.keys] if isinstance(self.keys, str) else self.keys
        keys = [key for key in known if key != target] if keys is None else list(keys)
        for key in (*keys, *([] if target is None else [target])):
            if key not in given:
                raise DataError(
                    "there is no such key", where=name, got=key, expected=", ".join(known)
                )
        x = given[keys[0]] if isinstance(self.keys, str) else {key: given[key] for key in keys}
        if target is not None:
            return x, given[target]
        if self.own_tokens and keys:
            return x, given[keys[0]]
        raise DataError(
            "nothing says which key is the target",
            where=name,
            got=", ".join(known),
            remedy="Declare it as `target`.",
        )

    def _columns(self, parts: Parts, name: str, form: tuple[Tree, Tree] | None = None) -> Source:
        """Records that stand in columns: in memory, or in memory maps that stay where they are."""
        tree, weights = (parts.x, parts.y), parts.weights
        count = _length(tree if weights is None else (*tree, weights), name)
        lists = any(isinstance(v, list) for v in mapped_leaves(tree))
        large = any(isinstance(v, np.memmap) for v in mapped_leaves(tree))
        if lists or self.padding is not None:
            columns = (*tree, weights) if weights is not None else tree
            items = self._items(Zipped(columns, count), name, form)
            return items if large else Tensors(*items.read(np.arange(count)))
        if self.weighted:
            given = self._weight(weights, name, form)
            weights = np.ones(count) if given is None else given
        with _told(name):
            y = parts.y if weights is None else (parts.y, np.asarray(weights, dtype=np.float32))
            if large:
                x, y = tree_map(_as_array, (parts.x, y))
                return Arrays(x, y, self.inputs, target)
            return Tensors(tree_map(self.inputs, parts.x), tree_map(target, y))

    def _weight(self, given: Any, name: str, form: tuple[Tree, Tree] | None) -> Any:
        """The weights that were given; held-out records need none."""
        if given is None and form is not None:
            raise DataError(
                "a bound of weights is declared, and the records have none",
                where=name,
                remedy="Give (inputs, targets, weights), or leave out `weight_bound`.",
            )
        return given

    def _items(self, dataset: Any, name: str, form: tuple[Tree, Tree] | None) -> Items:
        """Records that are the items of a data set, which stay where they are."""
        if form is None:
            form = self._form(dataset, name)
            return Items(dataset, partial(self._record, name=name, form=None), form, name)
        return Items(dataset, partial(self._record, name=name, form=form), form, name)

    def _form(self, dataset: Any, name: str) -> tuple[Tree, Tree]:
        """Shapes and types, from the first held-out record, read twice."""
        if not len(dataset):
            raise DataError(
                "there is no held-out record to take shapes and types from",
                where=name,
                remedy="Give a held-out split; its records are public.",
            )
        with _told(name):
            first, again = (self._record(dataset[0], name, None) for _ in range(2))
        pairs = zip(tree_leaves(first), tree_leaves(again), strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            raise DataError(
                "the data set gives another record each time that it is asked for the same one",
                where=name,
                remedy="Leave random transforms out of it; the stage ShiftFlip draws views of a "
                "record while it trains.",
            )
        both: tuple[Tree, Tree] = tree_map(lambda v: v.new_empty((0, *v.shape)), first)
        return both

    def _record(self, item: Any, name: str, form: tuple[Tree, Tree] | None) -> tuple[Tree, Tree]:
        """One record as trees of tensors without a batch."""
        pair = isinstance(item, tuple | Mapping) or (isinstance(item, list) and not self.own_tokens)
        parts = self.parts(item, name, not pair)
        x, y = tree_map(self.inputs, _joined(parts.x)), tree_map(target, _joined(parts.y))
        if self.padding is not None:
            x, y = self.padding.inputs(x), self.padding.targets(y)
        if not self.weighted:
            return x, y
        given = self._weight(parts.weights, name, form)
        return x, (y, torch.as_tensor(1.0 if given is None else given, dtype=torch.float32))


@dataclass(frozen=True, eq=False)
class Zipped:
    """Columns as a data set: record i is the i-th of every one."""

    columns: Any
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        return mapped(lambda column: column[i], self.columns)


class _told:
    """What a user's values or code raise, as one error that tells no value."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, DpiguError):
            raise DataError(
                f"the records cannot be made tensors: {type(error).__name__}", where=self._name
            ) from error


def told_of(given: Any, name: str) -> str:
    """What an error calls a split: its path, where it is a file or a folder."""
    return str(given) if isinstance(given, str | Path) else name


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """A tree whose leaves may be lists: a list holds one element a record."""
    if isinstance(tree, tuple):
        return tuple(mapped(function, part) for part in tree)
    if isinstance(tree, Mapping):
        return {key: mapped(function, part) for key, part in tree.items()}
    return function(tree)


def mapped_leaves(tree: Any) -> list[Any]:
    found: list[Any] = []
    mapped(found.append, tree)
    return found


def _length(tree: Any, name: str) -> int:
    lengths = {len(leaf) for leaf in mapped_leaves(tree)}
    if len(lengths) != 1:
        problem = "the numbers of inputs and labels differ" if lengths else "there is no input"
        raise DataError(problem, where=name)
    return lengths.pop()


def _joined(tree: Any) -> Any:
    """A record whose lists of numbers are leaves."""
    return mapped(lambda leaf: np.asarray(leaf) if isinstance(leaf, list) else leaf, tree)


def _as_array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def is_column(given: Any) -> bool:
    """Whether it is one column of inputs, and no pair."""
    return isinstance(given, Tensor | np.ndarray | list)


def is_dataset(given: Any) -> bool:
    indexed = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    plain = isinstance(given, tuple | list | Mapping | str | Path | Tensor | np.ndarray)
    return indexed and not plain
