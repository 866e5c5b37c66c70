"""What is declared of a table's columns, and what a column becomes by it.

Nothing is fitted to the records: a number is taken as it is or by a declared scaling, a category by
its place in a declared list, a missing number by a declared constant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeGuard

import numpy as np
from dpigu.dpcore.errors import ConfigurationError
from dpigu.trainers.data.scaling import Scaling
from numpy.typing import NDArray
from torch import Tensor

DROP: Final = "drop"
"""Declared of a column that is no input."""
MISSING = ("None", "nan", "<NA>", "NaT")
"""How the libraries of tables write a value that is not there."""
SCALING = ("divisor", "mean", "std")


@dataclass(frozen=True)
class Filled:
    """A column of numbers of which some are missing.

    Args:
        missing: the number that stands for those.
        scaling: of all, after that.
    """

    missing: float
    scaling: Scaling = field(default_factory=Scaling)

    def apply(self, x: NDArray[Any]) -> Tensor:
        """Return the scaled numbers as float32, in the shape of x; x is not changed."""
        return self.scaling.apply(np.where(np.isnan(x), self.missing, x))


Column = Scaling | Filled | Sequence[str] | Literal["drop"]
"""A scaling of numbers, the categories that there are, or that it is no input."""
Columns = Mapping[str, Column]


def columns_from_dict(table: Any, where: str) -> Columns:
    """What is declared of columns, each a `Scaling`, a `Filled`, {divisor, mean, std, missing}, a
    list of words, or "drop".

    Errors: `ConfigurationError` for anything else.
    """
    if not isinstance(table, Mapping):
        raise ConfigurationError(
            "what is declared of columns goes by their names",
            where=f"{where}: columns",
            got=table,
            expected="{'age': {'divisor': 100}, 'town': ['…', '…']}",
        )
    return {name: _column(declared, f"{where}: columns.{name}") for name, declared in table.items()}


def _column(declared: Any, where: str) -> Column:
    if isinstance(declared, Scaling | Filled):
        return declared
    if declared == DROP:
        return DROP
    if isinstance(declared, Mapping) and declared.keys() <= {*SCALING, "missing"}:
        scaling = Scaling(**{name: declared[name] for name in SCALING if name in declared})
        return Filled(declared["missing"], scaling) if "missing" in declared else scaling
    if isinstance(declared, list | tuple) and declared:
        return tuple(str(word) for word in declared)
    raise ConfigurationError(
        "a column is declared by its scaling, by the list of its categories, or dropped",
        where=where,
        got=declared,
        expected="{divisor = …, mean = …, std = …, missing = …}, ['…', '…'] or 'drop'",
    )


def columns_to_dict(columns: Columns) -> dict[str, Any]:
    """The inverse of `columns_from_dict`."""
    return {name: _plain(declared) for name, declared in columns.items()}


def _plain(declared: Column) -> Any:
    if isinstance(declared, Scaling):
        return vars(declared)
    if isinstance(declared, Filled):
        return {**vars(declared.scaling), "missing": declared.missing}
    return DROP if declared == DROP else [str(word) for word in declared]


def is_categories(declared: Column | None) -> TypeGuard[Sequence[str]]:
    """Whether a column holds words of a list."""
    return declared is not None and declared != DROP and not isinstance(declared, Scaling | Filled)


def encoded(values: NDArray[Any], declared: Column | None) -> NDArray[np.float32]:
    """A column as inputs, N × 1, or N × the number of categories, all zeros for none of them."""
    if is_categories(declared):
        alike = _places(values, declared)[:, None] == np.arange(len(declared))
        hot: NDArray[np.float32] = alike.astype(np.float32)
        return hot
    column: NDArray[np.float32] = _numbers(values, declared)[:, None].numpy()
    return column


def as_target(values: NDArray[Any], declared: Column | None) -> NDArray[Any]:
    """A column as targets: numbers as they are, categories by their place, −1 for none of them."""
    if is_categories(declared):
        return _places(values, declared)
    return values if declared is None else _numbers(values, declared).numpy()


def _places(values: NDArray[Any], declared: Sequence[str]) -> NDArray[np.int64]:
    """The place of each value in the list, −1 for none."""
    place = {word: i for i, word in enumerate(declared)}
    for i, word in enumerate(declared):
        with contextlib.suppress(ValueError):
            place.setdefault(_word(float(word)), i)
    return np.array([place.get(_word(value), -1) for value in values], dtype=np.int64)


def _word(value: Any) -> str:
    """What a value is called, in which no other record has a say.

    A column's type has: one missing number makes floats of all. So 1 and 1.0 are the same word,
    and what is missing is the empty one.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | float | np.number) and value == value:
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    return "" if str(value) in MISSING else str(value)


def _numbers(values: NDArray[Any], declared: Column | None) -> Tensor:
    scaled = declared if isinstance(declared, Scaling | Filled) else Scaling()
    return scaled.apply(values.astype(np.float64))  # whatever type the others make the column
