"""Tables: CSV and Parquet files, pandas and pyarrow tables, as inputs and targets.

What is done to a column is declared, and nothing is fitted to the records: a number is taken as it
is or by a declared scaling, a category by its place in a declared list.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.dpcore.errors import ConfigurationError, DataError
from dpigu.trainers.data.scaling import Scaling
from numpy.typing import NDArray

PYARROW = "pyarrow>=14"
FILES = (".csv", ".parquet")
Column = Scaling | Sequence[str]
"""A scaling of numbers, or the categories that there are."""
Columns = Mapping[str, Column]
LOOKED_FOR = "Give its path, or name the folder that holds it as `data_dir`."


def columns_from_dict(table: Any, where: str) -> Columns:
    """What is declared of columns: a `Scaling` or {divisor, mean, std}, or a list of words.

    Errors: `ConfigurationError` for anything else.
    """
    if not isinstance(table, Mapping):
        raise ConfigurationError(
            "what is declared of columns goes by their names",
            where=f"{where}: columns",
            got=table,
            expected="{'age': {'divisor': 100}, 'town': ['…', '…']}",
        )
    found: dict[str, Column] = {}
    for name, declared in table.items():
        if isinstance(declared, Scaling):
            found[name] = declared
        elif isinstance(declared, Mapping) and declared.keys() <= {"divisor", "mean", "std"}:
            found[name] = Scaling(**declared)
        elif isinstance(declared, list | tuple) and declared:
            found[name] = tuple(str(word) for word in declared)
        else:
            raise ConfigurationError(
                "a column is declared by its scaling or by the list of its categories",
                where=f"{where}: columns.{name}",
                got=declared,
                expected="{divisor = …, mean = …, std = …} or ['…', '…']",
            )
    return found


def columns_to_dict(columns: Columns) -> dict[str, Any]:
    """The inverse of `columns_from_dict`."""
    return {
        name: vars(declared) if isinstance(declared, Scaling) else [str(word) for word in declared]
        for name, declared in columns.items()
    }


def is_table(value: Any) -> bool:
    """Whether it is a table in memory, or the path of one."""
    if isinstance(value, str | Path):
        return Path(value).suffix.lower() in FILES
    package = type(value).__module__.partition(".")[0]
    return package in ("pandas", "pyarrow") and hasattr(value, "columns")


def read_table(value: Any) -> dict[str, NDArray[Any]]:
    """The columns of a table by name, in its order.

    Errors: `DataError` for a file that is missing or unreadable; `ConfigurationError` without
    pyarrow.
    """
    if not isinstance(value, str | Path):
        if hasattr(value, "column_names"):  # pyarrow
            return {n: value.column(n).to_numpy() for n in value.column_names}
        return {str(name): value[name].to_numpy() for name in value.columns}
    path = Path(value).expanduser()
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), remedy=LOOKED_FOR)
    try:
        reader = importlib.import_module(f"pyarrow.{path.suffix.lower()[1:]}")
    except ImportError as error:
        raise ConfigurationError(
            f"{path.suffix} files are read by pyarrow, which is not installed",
            where=str(path),
            remedy=f"Install it (pip install '{PYARROW}', the extra 'parquet'), or save an .npz.",
        ) from error
    try:
        read = reader.read_csv if path.suffix.lower() == ".csv" else reader.read_table
        table = read(str(path))
    except Exception as error:  # pyarrow's own, which quote what they found
        raise DataError(
            f"the file cannot be read as {path.suffix}: {type(error).__name__}", where=str(path)
        ) from error
    return {name: table.column(name).to_numpy() for name in table.column_names}


def table_split(
    table: Mapping[str, NDArray[Any]], where: str, target: str | None, columns: Columns
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Inputs, N × width, in the order of the columns, and targets.

    Args:
        where: the table's name, for errors.
        target: the column of the targets.
        columns: what is declared of the others; those it does not name are numbers as they are.

    Errors: `DataError` for a column that is missing, or is no numbers and not declared.
    """
    if target is None:
        raise DataError(
            "a table does not say which column is the target",
            where=where,
            got=", ".join(table),
            remedy="Declare it as `target`.",
        )
    for name in (target, *columns):
        if name not in table:
            raise DataError(
                "there is no such column", where=where, got=name, expected=", ".join(table)
            )
    if undeclared := [n for n, v in table.items() if not _is_known(v, columns.get(n))]:
        raise _undeclared(where, undeclared, target)
    parts = [_encoded(v, columns.get(n)) for n, v in table.items() if n != target]
    if not parts:
        raise DataError("there is no column beside the target", where=where, got=target)
    return np.concatenate(parts, axis=1), _target(table[target], columns.get(target))


def _is_known(values: NDArray[Any], declared: Column | None) -> bool:
    """Whether a column's categories are declared, or it is plain numbers."""
    categories = declared is not None and not isinstance(declared, Scaling)
    return categories or values.dtype.kind in "biuf"


def _encoded(values: NDArray[Any], declared: Column | None) -> NDArray[np.float32]:
    if declared is not None and not isinstance(declared, Scaling):
        known = np.array([str(word) for word in declared])
        words = np.array([str(value) for value in values])
        hot: NDArray[np.float32] = (words[:, None] == known[None]).astype(np.float32)
        return hot
    scaled = (declared or Scaling()).apply(values)
    column: NDArray[np.float32] = scaled[:, None].numpy()
    return column


def _target(values: NDArray[Any], declared: Column | None) -> NDArray[Any]:
    """The targets: numbers as they are, categories by their place in the declared list."""
    if declared is not None and not isinstance(declared, Scaling):
        place = {str(word): i for i, word in enumerate(declared)}
        return np.array([place.get(str(value), -1) for value in values], dtype=np.int64)
    return values if declared is None else declared.apply(values).numpy()


def _undeclared(where: str, names: list[str], target: str) -> DataError:
    lines = ", ".join(f'{name} = ["…", "…"]' for name in names)
    leave = "" if names == [target] else "; or leave what is not the target out of the table"
    return DataError(
        "a column holds no plain numbers, and its categories are not read off private records",
        where=f"{where}, column {', '.join(names)}",
        got="text or missing values",
        remedy=f"Declare in `columns` the categories of each: {lines}{leave}.",
    )
