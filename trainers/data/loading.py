"""Data by name, from a file, or from a user's own code.

What is declared about a file is given with its name; a held-out split is never chosen here, since
that would publish private records.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from dpigu.dpcore.errors import DataError, did_you_mean
from dpigu.dpcore.unit import Unit, called
from dpigu.trainers.code import imported, names_code
from dpigu.trainers.data.dataset import SPECS, Data, DataSpec
from dpigu.trainers.data.files import READERS, Array, data_folder, unreadable
from dpigu.trainers.data.making import data_from
from dpigu.trainers.data.scaling import BYTES, Scaling
from dpigu.trainers.data.sources import Tensors, form_of
from dpigu.trainers.data.sources.columns import Columns
from dpigu.trainers.data.sources.leaves import Inputs
from dpigu.trainers.data.sources.leaves import target as targets_of
from dpigu.trainers.data.sources.tables import FILES, LOOKED_FOR
from dpigu.trainers.data.units import UnitIds
from dpigu.trainers.tasks import task_named


def load_data(
    name_or_path: str | Path,
    data_dir: Path | None = None,
    records: int | None = None,
    classes: int | None = None,
    download: bool = True,
    *,
    test: str | Path | None = None,
    target: str | None = None,
    task: str | None = None,
    columns: Columns | None = None,
    unit: Unit | None = None,
    common_inputs: bool = False,
) -> Data:
    """Load a data set by name, a file with its held-out split, or a user's own; and check it.

    Args:
        name_or_path: a key of `SPECS`; a path that ends in `.npz`, `.csv` or `.parquet`; or
            `module:factory`, a function of yours without arguments that returns `Data`.

            A `.npz` has x of bytes (scaled by `BYTES`), floats or integers (taken as they are),
            y of targets, and the held-out split as test_x and test_y, or x_test and y_test. The
            record's shape is the file's. A file without a held-out split is refused: choosing one
            here would publish private records.
        data_dir: the folder to look in; else `DPIGU_DATA`, else `data` in the user's cache. A file
            that is not where its path says is looked for there by its name.
        records: the declared number of training records; a file needs it.
        classes: the declared number of classes; a file needs it, if its task has classes.
        download: fetch the official archive where the folder holds none of its files.
        test: another file of the same kind that holds the held-out split.
        target: the column or array of the targets; a table needs it.
        task: the task's name, where the targets of a file fit more than one.
        columns: what is declared of a table's columns; see `data_from`.
        unit: the unit of privacy, by the column or array that says whose a record is.
        common_inputs: the owner's word that equal inputs are of different people; see `data_from`.

    Raises:
        DataError: the data is unknown, missing or unreadable, or does not fit what is declared.
    """
    name = str(name_or_path)
    if name in SPECS:
        if common_inputs or any(v is not None for v in (test, target, columns, unit)):
            raise DataError(
                "a named data set has its held-out split and its targets already",
                where=name,
                remedy="Leave out `test`, `target`, `columns`, `unit` and `common_inputs`.",
            )
        return _named(name, data_dir, records, classes, download)
    if names_code(name):
        made = _of_factory(name, records, unit)
        word = common_inputs or made.spec.common_inputs
        return replace(made, spec=replace(made.spec, common_inputs=word))
    path = _file(name, data_dir)
    if path.suffix not in (".npz", *FILES):
        raise DataError(
            "unknown data set",
            got=name,
            expected=", ".join(
                (*SPECS, "or the path of a .npz file, a .csv, a .parquet, or module:factory")
            ),
            remedy=did_you_mean(name, SPECS),
        )
    wants_classes = task is None or task_named(task).counts is not None
    if records is None or (classes is None and wants_classes):
        raise DataError(
            "the numbers of records and classes are public constants, never read off the data",
            where=str(path),
            remedy="Declare `records` and `classes`.",
        )
    test = None if test is None else _file(str(test), data_dir)
    if path.suffix == ".npz":
        train, held_out = _npz_splits(path, test, target or "y")
        ids = (None, None) if unit is None else _npz_ids(path, test, unit.name)
        data = data_from(
            train=train,
            test=held_out,
            records=records,
            classes=classes,
            task=task,
            name=path.name,
            common_inputs=common_inputs,
        )
        if unit is None:
            return data
        spec, units = replace(data.spec, unit=unit), UnitIds.of(unit.name, *ids)
        return replace(data, spec=spec, units=units)
    if test is None:
        raise DataError(
            "a table has no held-out split, and none is chosen from private records",
            where=str(path),
            remedy="Name a second file that holds it as `test`; its records are public.",
        )
    return data_from(
        train=path,
        test=test,
        records=records,
        classes=classes,
        task=task,
        name=path.name,
        target=target,
        columns=columns,
        units=None if unit is None else unit.name,
        records_per_unit=None if unit is None else unit.records,
        unit_rows="mean" if unit is None else unit.reduce,
        common_inputs=common_inputs,
    )


def load_public(path: Path, spec: DataSpec) -> Data:
    """Load a `.npz` file of public records, x and y as in `load_data`, and check it.

    These records are not protected, so they are counted. Nothing is measured on them: the
    held-out split has no record, and other arrays in the file are left alone.

    Args:
        path: the file.
        spec: what is declared of the private records, whose task the public ones serve.

    Raises:
        DataError: the file is missing or unreadable, or does not fit what is declared.
    """
    x, y = _stored(
        path,
        (("x", "y"),),
        "the public records or their labels are missing",
        "Save them as x and y: numpy.savez(path, x=x, y=y).",
    )
    if x.ndim == 0:
        raise DataError(
            "the shape of a record is wrong",
            where=f"{path.name}, public split",
            got="one number",
            expected=spec.shape or "(width,)",
        )
    declared = replace(
        spec,
        name=path.name,
        records=max((1, *x.shape[:1])),
        shape=x.shape[1:],
        scaling=BYTES if x.dtype == np.uint8 else Scaling(),
        weight_bound=None,
        unit=None,
    )
    records = Tensors(Inputs()(x), targets_of(y))
    return Data(declared, records, Tensors(*form_of(records)))


def _file(name: str, data_dir: Path | None) -> Path:
    """The file at a path, or the one of its name in the folder of data."""
    path = Path(name).expanduser()
    inside = data_folder(data_dir) / path.name
    return inside if not path.is_file() and inside.is_file() else path


def _named(
    name: str, data_dir: Path | None, records: int | None, classes: int | None, download: bool
) -> Data:
    """A data set that has a name: its constants are fixed."""
    spec = SPECS[name]
    given = (("records", records, spec.records), ("classes", classes, spec.classes))
    for option, value, fixed in given:
        if value is not None and value != fixed:
            raise DataError(
                f"the number of {option} of a named data set is declared already",
                where=name,
                got=value,
                expected=fixed,
                remedy=f"Leave `{option}` out, or save the records that you mean as a .npz.",
            )
    arrays = READERS[name](data_folder(data_dir), download)
    return Data(
        spec,
        Tensors(spec.scaling.apply(arrays.train_x), targets_of(arrays.train_y)),
        Tensors(spec.scaling.apply(arrays.test_x), targets_of(arrays.test_y)),
    )


def _of_factory(name: str, records: int | None, unit: Unit | None) -> Data:
    """What a user's own function returns."""
    made = imported(name, "data", DataError)()
    if not isinstance(made, Data):
        raise DataError(
            "the data's factory did not return dpigu.Data",
            where=name,
            got=type(made),
            remedy="Let it return what dpigu.data_from makes.",
        )
    if records is not None and records != made.spec.records:
        raise DataError(
            "the data's factory declares another number of records",
            where=name,
            got=made.spec.records,
            expected=records,
        )
    if unit is not None and unit != made.spec.unit:
        raise DataError(
            "the data's factory declares another unit of privacy",
            where=name,
            got=called(made.spec.unit),
            expected=f"{unit.name}, {unit.row}",
        )
    return made


def _npz_splits(
    path: Path, test: str | Path | None, y: str
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Both splits of a `.npz`, or of two."""
    if test is not None:
        missing = f"inputs or targets are missing: x and {y}"
        remedy = f"Save them as x and {y}: numpy.savez(path, x=x, {y}={y})."
        ours, theirs = (_stored(file, (("x", y),), missing, remedy) for file in (path, Path(test)))
    else:
        x_N, y_N, x_M, y_M = _stored(
            path,
            (("x", y, "test_x", f"test_{y}"), ("x", y, "x_test", f"{y}_test")),
            "a training or a held-out split is missing",
            "The held-out split is public, so only you can choose its records: "
            f"numpy.savez(path, x=x, {y}={y}, test_x=test_x, test_{y}=test_{y}).",
        )
        ours, theirs = [x_N, y_N], [x_M, y_M]
    types = ours[0].dtype, theirs[0].dtype
    if types[0] != types[1]:
        raise DataError(
            "the inputs of the two splits differ in type, so one scaling cannot serve both",
            where=str(path),
            got=f"{types[0]} for training, {types[1]} held out",
        )
    return (ours[0], ours[1]), (theirs[0], theirs[1])


def _npz_ids(path: Path, test: str | Path | None, name: str) -> tuple[Array, Array | None]:
    """Whose the records of both splits are; of those held out it need not be known."""
    problem, remedy = "nothing says whose a record is", f"Save one id a record as {name}."
    ids = _stored(path, ((name,),), problem, remedy)[0]
    others: tuple[tuple[str, ...], ...]
    if test is not None:
        path, others = Path(test), ((name,), ())
    else:
        others = ((f"test_{name}",), (f"{name}_test",), ())
    return ids, next(iter(_stored(path, others, problem, remedy)), None)


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
        raise DataError("there is no such file", where=str(path), remedy=LOOKED_FOR) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        # numpy.load answers a lone array (.npy) with an ndarray, which `with` refuses: TypeError
        raise unreadable(path, "it is not an npz file of plain arrays") from error
