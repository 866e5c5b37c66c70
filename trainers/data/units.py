"""Units: all records of one person as one row, where privacy is promised by person.

A unit's row is the gradient of one function of its records: their mean loss, or their summed one,
over at most K of them. So it is clipped once, and the whole person moves a step's sum by the
clipping norm, however many records are theirs. What of a person is read at a step depends on that
person's records alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from dpigu.dpcore.errors import DataError
from dpigu.dpcore.randomness import system_words
from dpigu.dpcore.unit import Reduce, Unit
from dpigu.trainers.data.sources import Indices, Source
from dpigu.trainers.data.sources.tables import is_table, read_table
from dpigu.trainers.engines.records import Tree
from numpy.typing import NDArray
from torch.utils._pytree import tree_map

Split = Literal["training", "held-out"]


@dataclass(frozen=True, eq=False)
class UnitIds:
    """Whose every record is, as whole numbers that both splits share.

    Args:
        train_N: of the training records.
        test_M: of the held-out ones; None where that is not known.
    """

    train_N: Indices = field(repr=False)
    test_M: Indices | None = field(default=None, repr=False)

    @classmethod
    def of(cls, name: str, train: Any, test: Any = None) -> UnitIds:
        """From any values that can be compared: numbers, words.

        Errors: `DataError` for ids that are not one value a record, or missing for some.
        """
        splits = [_plain(name, ids) for ids in (train, test) if ids is not None]
        _, codes = np.unique(np.concatenate(splits), return_inverse=True)
        whole = codes.reshape(-1).astype(np.int64)
        count = len(splits[0])
        return cls(whole[:count], whole[count:] if test is not None else None)

    @property
    def splits(self) -> Iterator[tuple[Split, Indices]]:
        """The ids of each split that has them."""
        yield "training", self.train_N
        if self.test_M is not None:
            yield "held-out", self.test_M

    def planted(self, stays_N: NDArray[np.bool_], more: int) -> UnitIds:
        """Without some training records, and with so many more, each a unit of its own."""
        known = [ids.max(initial=-1) for _, ids in self.splits]
        own = np.arange(more, dtype=np.int64) + max(known) + 1
        return replace(self, train_N=np.concatenate([self.train_N[stays_N], own]))

    @property
    def shared(self) -> bool:
        """Whether a unit of the held-out split has training records; private."""
        return self.test_M is not None and bool(np.isin(self.test_M, self.train_N).any())


@dataclass(frozen=True, eq=False)
class ByUnit:
    """A source of units: each is K records on an axis of their own, and the weights of these.

    A unit with fewer than K records has the first of those repeated at weight zero. The weights
    w_K are such that (1/K) Σ w ℓ is the mean loss of the n records that were taken (w = K/n), or
    their sum (w = K).

    Args:
        source: of the records.
        unit: what is declared.
        owner_N: whose each record is.
    """

    source: Source
    unit: Unit
    owner_N: Indices = field(repr=False)

    @cached_property
    def _sorted(self) -> tuple[Indices, Indices]:
        """The records, those of a unit side by side; and where each unit's begin, with the end."""
        order = np.argsort(self.owner_N, kind="stable")
        _, first = np.unique(self.owner_N[order], return_index=True)
        return order, np.append(first, len(order))

    def __len__(self) -> int:
        return len(self._sorted[1]) - 1

    def records_of(self, unit: int) -> Indices:
        """All records of a unit; units go by the order of their ids."""
        order, first = self._sorted
        return order[first[unit] : first[unit + 1]]

    def read(self, at: Indices) -> tuple[Tree, Tree]:
        """Inputs U × K × …, and targets (U × K × …, with the weights U × K as a second one)."""
        most = self.unit.records
        at_UK = np.zeros((len(at), most), dtype=np.int64)
        weight_UK = np.zeros((len(at), most), dtype=np.float32)
        for row, unit in enumerate(at):
            taken = chosen(self.records_of(unit), most)
            at_UK[row] = taken[0]
            at_UK[row, : len(taken)] = taken
            share = most / len(taken) if self.unit.reduce == "mean" else most
            weight_UK[row, : len(taken)] = share
        records = self.source.read(at_UK.reshape(-1))
        x, y = tree_map(lambda v: v.unflatten(0, (len(at), most)), records)
        return x, (y, torch.from_numpy(weight_UK))


def chosen(records: Indices, most: int) -> Indices:
    """At most so many of one unit's records, every choice of them equally likely."""
    if len(records) <= most:
        return records
    return records[np.argsort(system_words(len(records)), kind="stable")[:most]]


def unit_of(ids: Any, records: int | None, reduce: Reduce, where: str) -> Unit | None:
    """The unit of ids or of the column that holds them, or None where there are none.

    Errors: `DataError` for ids without a number of records, or a number without ids.
    """
    if (ids is None) != (records is None):
        raise DataError(
            "privacy by person wants whose a record is, and how many of a unit make its row",
            where=where,
            got="`records_per_unit` alone" if ids is None else "`units` alone",
            remedy="Declare both.",
        )
    if records is None:
        return None
    return Unit(ids if isinstance(ids, str) else "person", records, reduce)


def column_of(given: Any, name: str, where: str | None) -> Any:
    """The column of ids in a split: of a table, a dict, or a Hugging Face data set.

    Errors: `DataError` where there is none, if `where` says that it is needed.
    """
    columns: Any = read_table(given, [name]) if is_table(given) else given
    known = getattr(columns, "column_names", columns if isinstance(columns, Mapping) else ())
    if name in known:
        return columns[name]
    if where is None:
        return None
    raise DataError(
        "there is no such column to say whose a record is",
        where=where,
        got=name,
        expected=", ".join(known) or "a table, a dict, or an array of ids",
        remedy="Name a column as `units`, or give an array with one id a record.",
    )


def _plain(name: str, ids: Any) -> NDArray[Any]:
    """Ids as a vector of words or numbers, none of them missing."""
    array = np.asarray(ids)
    if array.dtype.kind == "O":
        missing = any(v is None or v != v for v in array.reshape(-1))
        array = np.array([str(v) for v in array.reshape(-1)]).reshape(array.shape)
    else:
        missing = array.dtype.kind == "f" and not bool(np.isfinite(array).all())
    if array.ndim != 1 or missing:
        raise DataError(
            "a record does not say whose it is" if missing else "ids are not one value a record",
            where=f"unit {name}",
            got=None if missing else f"{array.ndim} axes",
            remedy="Give every record the id of its unit; one of its own if it has no other.",
        )
    return array
