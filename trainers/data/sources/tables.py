"""Tables: CSV and Parquet files, pandas and pyarrow tables, as inputs and targets."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.dpcore.errors import ConfigurationError, DataError
from dpigu.trainers.data.sources.columns import (
    DROP,
    Column,
    Columns,
    Filled,
    as_target,
    encoded,
    is_categories,
)
from numpy.typing import NDArray

PYARROW = "pyarrow>=14"
FILES = (".csv", ".parquet")
LOOKED_FOR = "Give its path, or name the folder that holds it as `data_dir`."


def is_table(value: Any) -> bool:
    """Whether it is a table in memory, or the path of one."""
    if isinstance(value, str | Path):
        return Path(value).suffix.lower() in FILES
    package = type(value).__module__.partition(".")[0]
    return package in ("pandas", "pyarrow") and hasattr(value, "columns")


def read_table(value: Any, words: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
    """The columns of a table by name, in its order.

    Args:
        words: columns that a text file has as text; the type of another is told by its values.

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
        if path.suffix.lower() == ".csv":
            text = importlib.import_module("pyarrow").string()
            options = reader.ConvertOptions(column_types=dict.fromkeys(words, text))
            table = reader.read_csv(str(path), convert_options=options)
        else:
            table = reader.read_table(str(path))
    except Exception as error:  # pyarrow's own, which quote what they found
        raise DataError(
            f"the file cannot be read as {path.suffix}: {type(error).__name__}", where=str(path)
        ) from error
    return {name: table.column(name).to_numpy() for name in table.column_names}


def table_split(
    table: Mapping[str, NDArray[Any]],
    where: str,
    target: str | None,
    columns: Columns,
    *,
    public: bool,
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Inputs, N × width, in the order of the columns, and targets.

    Args:
        where: the table's name, for errors.
        target: the column of the targets.
        columns: what is declared of the others; those it does not name are numbers as they are.
        public: whether an error may say where a value is missing.

    Errors: `DataError` for a column that is missing, is no numbers and not declared, or has missing
    values that nothing stands for.
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
    if columns.get(target) == DROP:
        raise DataError("the target is dropped", where=where, got=target)
    inputs = {n: v for n, v in table.items() if n != target and columns.get(n) != DROP}
    if not inputs:
        raise DataError("there is no column beside the target", where=where, got=target)
    known = {**inputs, target: table[target]}
    if undeclared := [n for n, v in known.items() if not _is_known(v, columns.get(n))]:
        raise _undeclared(where, undeclared, target)
    if public and (holed := [n for n, v in inputs.items() if _has_holes(v, columns.get(n))]):
        raise _missing(where, holed)
    parts = [encoded(v, columns.get(n)) for n, v in inputs.items()]
    return np.concatenate(parts, axis=1), as_target(table[target], columns.get(target))


def _is_known(values: NDArray[Any], declared: Column | None) -> bool:
    """Whether a column's categories are declared, or it is plain numbers."""
    return is_categories(declared) or values.dtype.kind in "biuf"


def _has_holes(values: NDArray[Any], declared: Column | None) -> bool:
    """Whether numbers are missing, and nothing is declared to stand for them."""
    filled = is_categories(declared) or isinstance(declared, Filled)
    return not filled and values.dtype.kind == "f" and bool(np.isnan(values).any())


def _undeclared(where: str, names: list[str], target: str) -> DataError:
    lines = ", ".join(f'{name} = ["…", "…"]' for name in names)
    leave = "" if names == [target] else f'; or "{DROP}" in place of a list for what is no input'
    return DataError(
        "a column holds no plain numbers, and its categories are not read off private records",
        where=f"{where}, column {', '.join(names)}",
        got="text or missing values",
        remedy=f"Declare in `columns` the categories of each: {lines}{leave}.",
    )


def _missing(where: str, names: list[str]) -> DataError:
    lines = ", ".join(f"{name} = {{missing = 0.0}}" for name in names)
    return DataError(
        "numbers are missing in a column, and nothing is declared to stand for them",
        where=f"{where}, column {', '.join(names)}",
        remedy=f"Declare a constant for each in `columns`: {lines}, or what you take for usual; "
        "never a mean of the training records.",
    )
