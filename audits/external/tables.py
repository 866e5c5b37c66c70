"""Files of scores and of records, from anywhere: CSV, Parquet, npz. Nothing is ever unpickled."""

from __future__ import annotations

import csv
import importlib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.audits.external.signals import SIGNALS, signal_for
from dpigu.audits.statistics import Reals
from dpigu.dpcore import DataError
from numpy.typing import NDArray

MEMBER, BASELINE = "member", "baseline"
WIDE = ("log_probabilities", "prediction", "target")
"""Arrays of an .npz that may have more than one number a record."""
PYARROW = "pyarrow>=14"
_TRUTH = {"1": 1, "0": 0, "true": 1, "false": 0, "1.0": 1, "0.0": 0}


def read_scores(
    path: Path, signal: str | None = None
) -> tuple[Reals, NDArray[np.int64], Reals | None]:
    """A signal (float64, NaN let through), membership (0 or 1) and, if there, the baseline.

    Args:
        path: .csv with a header line, .parquet, or .npz; columns or arrays `member` (1, 0, true,
            false), and those of a signal of `dpigu.audits.external.signals`: `score`, a number
            that is higher for "member", or a model's predictions; and `baseline`, the same by
            a classifier that never saw the model. Others are not read.
        signal: which, where the columns make more than one.

    Raises: DataError for a file that is missing, of another kind, or without these columns.
    """
    columns = read_columns(path, (MEMBER,))
    scores = signal_for(columns.keys() - {MEMBER}, signal).of(columns)
    return scores, _membership(path, columns[MEMBER]), columns.get(BASELINE)


def read_columns(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    """The columns of a file that have a meaning here, all as numbers but the needed ones.

    Raises: DataError as `read_scores`.
    """
    readers = {".csv": _csv, ".parquet": _parquet, ".npz": _npz}
    if path.suffix.lower() not in readers:
        raise DataError(
            "scores are read from .csv, .parquet or .npz", where=str(path), got=path.suffix
        )
    if not path.is_file():
        raise DataError("there is no such file", where=str(path))
    columns = readers[path.suffix.lower()](path, needed)
    for name, values in columns.items():
        if np.ndim(values) != 1 and not (name in WIDE and np.ndim(values) > 1):
            raise DataError("this must be one column", where=f"{path}, {name}")
    if len({len(values) for values in columns.values()}) != 1:
        raise DataError("the columns differ in length", where=str(path))
    if len(columns[needed[0]]) == 0:
        raise DataError("there is no score", where=str(path))
    return {
        name: values if name in needed else _numbers(path, name, values)
        for name, values in columns.items()
    }


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Plain arrays of an .npz by name.

    Raises: DataError for a file that is missing, damaged, pickled, or without one of them.
    """
    with _opened(path) as stored:
        _require(path, stored.files, names)
        found = {name: stored[name] for name in names}
    return found


def array_names(path: Path) -> tuple[str, ...]:
    """The names of an .npz's arrays. Raises: DataError as `read_arrays`."""
    with _opened(path) as stored:
        names = tuple(stored.files)
    return names


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An .npz of plain arrays, open; errors on the way become a DataError."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(path)) from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(
            "it is not an npz file of plain arrays",
            where=str(path),
            remedy="Pickled objects are never loaded: save with numpy.savez.",
        ) from error


def _csv(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            names = _known(path, rows.fieldnames or (), needed)
            table = [[row[name] for name in names] for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read as CSV: {error}", where=str(path)) from error
    return {name: [row[i] for row in table] for i, name in enumerate(names)}


def _parquet(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
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
    names = _known(path, table.column_names, needed)
    return {name: table.column(name).to_pylist() for name in names}


def _npz(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    with _opened(path) as stored:
        names = _known(path, stored.files, needed)
    return dict(read_arrays(path, names))


def _known(path: Path, found: Iterable[str], needed: tuple[str, ...]) -> tuple[str, ...]:
    """The names that mean something here, once each."""
    there = list(found)
    _require(path, there, needed)
    known = {
        *needed,
        "reference",
        BASELINE,
        *(name for s in SIGNALS.values() for name in s.columns),
    }
    if twice := sorted({name for name in known if there.count(name) > 1}):
        raise DataError(f"there are two columns {' and '.join(twice)}", where=str(path))
    return tuple(name for name in there if name in known)


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


def _numbers(path: Path, name: str, values: Any) -> Reals:
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex")
        scores = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"a {name} is not a number", where=f"{path}, {name}") from error
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
