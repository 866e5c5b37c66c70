"""Data by name: tensors beside the public constants that were declared for them.

Everything in a `DataSpec` is public and fixed before the records are read: how many records are
declared, the classes, the record's shape, the scaling. A data set with one record more or less
has the same spec; the declared number is never compared with the number that is there.

Held-out splits are public. Messages about a training split name what was declared and never a
value, a place or a count that was found.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from dpigu.dpcore.errors import DataError, did_you_mean
from dpigu.trainers.data.checks import check_split, wrong
from dpigu.trainers.data.files import READERS, Array, Arrays, data_folder, unreadable
from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """The declared input scaling: (x / divisor − mean) / std, the same for every coordinate."""

    divisor: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    def __str__(self) -> str:
        return f"(x / {self.divisor:g} − {self.mean:g}) / {self.std:g}"

    def apply(self, x: Array) -> Tensor:
        """Return (x / divisor − mean) / std as float32, in the shape of x; x is not changed."""
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            scaled = x.astype(np.float32)
        scaled /= np.float32(self.divisor)
        scaled -= np.float32(self.mean)
        scaled /= np.float32(self.std)
        return torch.from_numpy(scaled)


BYTES = Scaling(255, 0.5, 0.5)
"""Bytes to [−1, 1]: known from the file format alone, not from any pixel."""


@dataclass(frozen=True)
class DataSpec:
    """What is declared about a data set, all of it public.

    Args:
        name: the data set's name.
        records: the declared number of training records; rate and divisor refer to it.
        classes: labels are 0 … classes − 1.
        shape: the shape of one record, channel first for images.
        scaling: the fixed map from stored values to the model's inputs.

    Raises:
        DataError: a number is not a whole one of a sensible size.
    """

    name: str
    records: int
    classes: int
    shape: tuple[int, ...]
    scaling: Scaling

    def __post_init__(self) -> None:
        for option, value, least in (("records", self.records, 1), ("classes", self.classes, 2)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise DataError(
                    f"the declared number of {option} must be a whole number, {least} or more",
                    where=self.name,
                    got=value,
                    remedy=f"Declare it as `{option}`.",
                )


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: x scaled floats (N × shape), y int64 (N). The test split is public.

    It is checked here wherever it comes from, so a run never meets a record that does not fit.
    The tensors stay out of `repr`, so that a logged object shows no record. There may be no
    held-out record, as in public data; a run needs one.

    Raises:
        DataError: a split of the wrong type, shape or length; a label outside 0 … classes − 1;
            an input that is not finite.
    """

    spec: DataSpec
    train_x: Tensor = field(repr=False)
    train_y: Tensor = field(repr=False)
    test_x: Tensor = field(repr=False)
    test_y: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        check_split(self.spec, "training", self.train_x, self.train_y)
        check_split(self.spec, "held-out", self.test_x, self.test_y)
        if not len(self.train_x):
            raise wrong(self.spec, "training", "there is no record")
        if self.train_x.dtype != self.test_x.dtype:
            raise DataError(
                "the inputs of the two splits differ in type",
                where=self.spec.name,
                got=f"{self.train_x.dtype} for training, {self.test_x.dtype} held out",
            )


SPECS: Mapping[str, DataSpec] = {
    spec.name: spec
    for spec in (
        DataSpec("digits", 1_500, 10, (1, 8, 8), Scaling(16, 0.5, 0.5)),
        DataSpec("mnist", 60_000, 10, (1, 28, 28), BYTES),
        DataSpec("fashion-mnist", 60_000, 10, (1, 28, 28), BYTES),
        DataSpec("cifar10", 50_000, 10, (3, 32, 32), BYTES),
    )
}
"""The data sets that have a name; reading a spec reads no record."""


def load_data(
    name_or_path: str | Path,
    data_dir: Path | None = None,
    records: int | None = None,
    classes: int | None = None,
    download: bool = True,
) -> Data:
    """Load a data set by name, or a `.npz` file with x, y and a held-out split, and check it.

    Args:
        name_or_path: a key of `SPECS`, or a path that ends in `.npz`: x of bytes (scaled by
            `BYTES`) or of floats (taken as they are), y of integers, the held-out split as
            test_x and test_y, or x_test and y_test. The record's shape is the file's. A file
            without a held-out split is refused: choosing one here would publish private records.
        data_dir: the folder to look in; else `DPIGU_DATA`, else `data` in the user's cache.
        records: the declared number of training records; for a `.npz`, which needs it.
        classes: the declared number of classes; for a `.npz`, which needs it.
        download: fetch the official archive where the folder holds none of its files.

    Raises:
        DataError: the data is unknown, missing or unreadable, or does not fit what is declared.
    """
    name = str(name_or_path)
    if name.endswith(".npz"):
        spec, arrays = _read_npz(Path(name).expanduser(), records, classes)
    elif name in SPECS:
        spec = SPECS[name]
        for option, given, fixed in (
            ("records", records, spec.records),
            ("classes", classes, spec.classes),
        ):
            if given is not None and given != fixed:
                raise DataError(
                    f"the number of {option} of a named data set is declared already",
                    where=name,
                    got=given,
                    expected=fixed,
                    remedy=f"Leave `{option}` out, or save the records that you mean as a .npz.",
                )
        arrays = READERS[name](data_folder(data_dir), download)
    else:
        raise DataError(
            "unknown data set",
            got=name,
            expected=", ".join((*SPECS, "or the path of a .npz file")),
            remedy=did_you_mean(name, SPECS),
        )
    return Data(
        spec,
        *_checked(spec, "training", arrays.train_x, arrays.train_y),
        *_checked(spec, "held-out", arrays.test_x, arrays.test_y),
    )


def load_public(path: Path, classes: int) -> Data:
    """Load a `.npz` file of public records, x and y as in `load_data`, and check it.

    These records are not protected, so they are counted. Nothing is measured on them: the
    held-out split has no record, and other arrays in the file are left alone.

    Args:
        path: the file.
        classes: the declared number of classes.

    Raises:
        DataError: the file is missing or unreadable, or does not fit what is declared.
    """
    x, y = _stored(
        path,
        (("x", "y"),),
        "the public records or their labels are missing",
        "Save them as x and y: numpy.savez(path, x=x, y=y).",
    )
    spec = _npz_spec(path, max((1, *x.shape[:1])), classes, x)
    x_N, y_N = _checked(spec, "public", x, y)
    return Data(spec, x_N, y_N, x_N[:0], y_N[:0])


def _read_npz(path: Path, records: int | None, classes: int | None) -> tuple[DataSpec, Arrays]:
    """Return a `.npz`'s arrays, and the spec from what is declared and the file's schema."""
    if records is None or classes is None:
        raise DataError(
            "the numbers of records and classes are public constants, never read off the data",
            where=str(path),
            remedy="Declare `records` and `classes`.",
        )
    arrays = Arrays(
        *_stored(
            path,
            (("x", "y", "test_x", "test_y"), ("x", "y", "x_test", "y_test")),
            "a training or a held-out split is missing",
            "The held-out split is public, so only you can choose its records: "
            "numpy.savez(path, x=x, y=y, test_x=test_x, test_y=test_y).",
        )
    )
    types = arrays.train_x.dtype, arrays.test_x.dtype
    if types[0] != types[1]:
        raise DataError(
            "the inputs of the two splits differ in type, so one scaling cannot serve both",
            where=str(path),
            got=f"{types[0]} for training, {types[1]} held out",
        )
    return _npz_spec(path, records, classes, arrays.train_x), arrays


def _npz_spec(path: Path, records: int, classes: int, x: Array) -> DataSpec:
    """Return a `.npz`'s spec: named like the file, bytes scaled and floats as they are."""
    scaling = BYTES if x.dtype == np.uint8 else Scaling()
    return DataSpec(path.stem, records, classes, x.shape[1:], scaling)


def _stored(
    path: Path, choices: Sequence[tuple[str, ...]], problem: str, remedy: str
) -> list[Array]:
    """Return the arrays of the first choice of names that a `.npz` file has all of, or raise."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = set(stored.files)
            chosen = next((choice for choice in choices if names.issuperset(choice)), None)
            if chosen is None:
                raise DataError(
                    problem,
                    where=str(path),
                    got=", ".join(sorted(names)),
                    expected=", ".join(choices[0]),
                    remedy=remedy,
                )
            return [stored[name] for name in chosen]
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(path)) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        # numpy.load answers a lone array (.npy) with an ndarray, which `with` refuses: TypeError
        raise unreadable(path, "it is not an npz file of plain arrays") from error


def _checked(spec: DataSpec, split: str, x: Array, y: Array) -> tuple[Tensor, Tensor]:
    """Return one split as tensors, or raise: what `Data` cannot see once they are tensors."""
    if x.ndim < 2 or x.shape[1:] != spec.shape:
        shape, expected = x.shape[1:], spec.shape or "(width,)"
        raise wrong(spec, split, "the shape of a record is wrong", got=shape, expected=expected)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        remedy = "Save bytes (scaled to [-1, 1] here) or floats (taken as they are)."
        problem, expected = "the inputs have the wrong type", "uint8 or a float"
        raise wrong(spec, split, problem, remedy, str(x.dtype), expected)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        problem, got = "the labels are not one integer for each record", f"{y.dtype}, {y.ndim} axes"
        raise wrong(spec, split, problem, got=got, expected="int64, 1 axis")
    if not len(x):
        raise wrong(spec, split, "there is no record")
    return spec.scaling.apply(x), torch.from_numpy(y.astype(np.int64))
