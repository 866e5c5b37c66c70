"""Files of scores and of records, from anywhere: CSV, Parquet, npz. Nothing is ever unpickled."""

from __future__ import annotations

import csv
import importlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.audits.statistics import Reals
from dpigu.dpcore import DataError
from numpy.typing import NDArray

SCORE, MEMBER = "score", "member"
PYARROW = "pyarrow>=14"
_TRUTH = {"1": 1, "0": 0, "true": 1, "false": 0, "1.0": 1, "0.0": 0}


def read_scores(path: Path) -> tuple[Reals, NDArray[np.int64]]:
    """Scores (float64, NaN let through) and membership (0 or 1) of a file, in its order.

    Args:
        path: .csv with a header line, .parquet, or .npz; columns or arrays `score` (a number,
            higher for "member") and `member` (1, 0, true, false). Others are not read.

    Raises: DataError for a file that is missing, of another kind, or without these columns.
    """
    readers = {".csv": _csv, ".parquet": _parquet, ".npz": _npz}
    if path.suffix.lower() not in readers:
        raise DataError(
            "scores are read from .csv, .parquet or .npz", where=str(path), got=path.suffix
        )
    if not path.is_file():
        raise DataError("there is no such file", where=str(path))
    columns = readers[path.suffix.lower()](path)
    for name in (SCORE, MEMBER):
        if np.ndim(columns[name]) != 1:
            raise DataError("this must be one column", where=f"{path}, {name}")
    if len(columns[SCORE]) != len(columns[MEMBER]):
        raise DataError("the columns differ in length", where=str(path))
    if len(columns[SCORE]) == 0:
        raise DataError("there is no score", where=str(path))
    return _numbers(path, columns[SCORE]), _membership(path, columns[MEMBER])


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Plain arrays of an .npz by name.

    Raises: DataError for a file that is missing, damaged, pickled, or without one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            _require(path, stored.files, names)
            return {name: stored[name] for name in names}
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(path)) from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(
            "it is not an npz file of plain arrays",
            where=str(path),
            remedy="Pickled objects are never loaded: save with numpy.savez.",
        ) from error


def _csv(path: Path) -> dict[str, Any]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            _require(path, rows.fieldnames or (), (SCORE, MEMBER))
            pairs = [(row[SCORE], row[MEMBER]) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read as CSV: {error}", where=str(path)) from error
    return {SCORE: [score for score, _ in pairs], MEMBER: [member for _, member in pairs]}


def _parquet(path: Path) -> dict[str, Any]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        arrow = importlib.import_module("pyarrow")
    except ImportError as error:
        raise DataError(
            "Parquet needs a package that is not installed",
            where=str(path),
            remedy=f"Install it (pip install '{PYARROW}', the extra 'parquet'), or save as CSV.",
        ) from error
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise DataError("cannot be read as Parquet", where=str(path)) from error
    _require(path, table.column_names, (SCORE, MEMBER))
    return {name: table.column(name).to_pylist() for name in (SCORE, MEMBER)}


def _npz(path: Path) -> dict[str, Any]:
    return dict(read_arrays(path, (SCORE, MEMBER)))


def _require(path: Path, found: Any, wanted: tuple[str, ...]) -> None:
    if twice := [name for name in wanted if list(found).count(name) > 1]:
        raise DataError(f"there are two columns {' and '.join(twice)}", where=str(path))
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"what is called {' and '.join(missing)} is missing",
            where=str(path),
            got=", ".join(map(str, found)) or "nothing",
            expected=", ".join(wanted),
        )


def _numbers(path: Path, values: Any) -> Reals:
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex")
        scores = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("a score is not a number", where=f"{path}, {SCORE}") from error
    return scores


def _membership(path: Path, values: Any) -> NDArray[np.int64]:
    found = [_TRUTH.get(str(value).strip().lower()) for value in values]
    if None in found:
        row = found.index(None)
        raise DataError(
            "membership must be 1 or 0, true or false",
            where=f"{path}, {MEMBER}, row {row + 1}",
            got=str(values[row]),
        )
    return np.array(found, dtype=np.int64)
