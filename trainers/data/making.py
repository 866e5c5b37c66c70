"""`data_from`: one function that makes data from what people have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from dpigu.dpcore.unit import Reduce
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.data.maker import (
    Maker,
    is_column,
    is_dataset,
    mapped,
    mapped_leaves,
    told_of,
)
from dpigu.trainers.data.scaling import BYTES, Scaling
from dpigu.trainers.data.sources import Source, form_of, shapes_of
from dpigu.trainers.data.sources.columns import columns_from_dict
from dpigu.trainers.data.sources.images import image_folders
from dpigu.trainers.data.sources.leaves import Inputs, holds_bytes
from dpigu.trainers.data.sources.padding import Padding
from dpigu.trainers.data.sources.tables import is_table
from dpigu.trainers.data.units import UnitIds, column_of, unit_of
from dpigu.trainers.tasks import Task, task_named, task_of

KEEPS_TOKENS = "causal-lm"


def data_from(
    *,
    train: Any,
    test: Any,
    records: int,
    classes: int | None = None,
    task: str | Task | None = None,
    name: str = "data",
    target: str | None = None,
    inputs: str | Sequence[str] | None = None,
    columns: Mapping[str, Any] | None = None,
    scaling: Scaling | None = None,
    weight_bound: float | None = None,
    pad_to: int | None = None,
    pad_token: int = 0,
    units: Any = None,
    test_units: Any = None,
    records_per_unit: int | None = None,
    unit_rows: Reduce = "mean",
    common_inputs: bool = False,
) -> Data:
    """Data from tensors, arrays, memory maps, lists, data sets, tables or folders of images.

    Shapes and types are those of the held-out records, which are public; nothing is read off the
    training records but that they fit.

    Args:
        train, test: each is one of

            - `(inputs, targets)` or `(inputs, targets, weights)`: trees (tuples, dicts) of
              tensors, arrays or memory maps, N × …; a list holds one element a record. For
              `causal-lm` the inputs alone do: they are their own targets;
            - a map-style data set: torch's or Hugging Face's, whose items are such pairs, or
              dicts;
            - a table: a path that ends in .csv or .parquet, or of pandas or pyarrow;
            - a folder of images, `folder/class/file`.
        records: the declared number of training records, or of units.
        classes: the declared number of classes, labels or tokens, as the task counts them.
        task: its name in `TASKS`; integers, one a record, are a classification.
        name: what the data is called.
        target: the column or key that is the target.
        inputs: the keys of a dict that are inputs; one name gives the model that tensor alone.
        columns: what is declared of a table's columns by name: a `Scaling` (or a dict of its
            fields, with `missing` the number that stands for a missing one), a list of
            categories, or "drop" for a column that is no input.
        scaling: of float and byte inputs; bytes are brought to [−1, 1] where none is given.
        weight_bound: the largest weight; a weight multiplies its record's loss.
        pad_to: the length that sequences are padded or cut to; the model also gets the mask.
        pad_token: the integer that pads inputs.
        units: whose every training record is, where privacy is promised by person: an array, or
            the name of a column or key, which is then no input; see `Unit`.
        test_units: the same of the held-out records, where it is known and `units` is an array:
            nobody may be in both splits.
        records_per_unit: the most records of a unit that make its row.
        unit_rows: a row is the gradient of their mean loss, or of the sum.
        common_inputs: your word that records with equal inputs are of different people; where it
            is not given, a held-out input that is also a training one is refused.

    Errors: `DataError` for what does not fit, in one line that tells no value of a training
    record.
    """
    chosen = None if task is None else task_named(task)
    make = Maker(
        inputs=Inputs(scaling),
        padding=None if pad_to is None else Padding(pad_to, pad_token),
        target=target,
        keys=inputs,
        columns=columns_from_dict(columns or {}, name),
        own_tokens=chosen is not None and chosen.name == KEEPS_TOKENS,
        weighted=weight_bound is not None,
        owners=units if isinstance(units, str) else None,
    )
    unit = unit_of(units, records_per_unit, unit_rows, name)
    if isinstance(train, str | Path) and isinstance(test, str | Path) and Path(test).is_dir():
        train, test = image_folders(Path(train), Path(test), classes)
    held_out = make.source(test, f"{name}, held-out split", None)
    private = make.source(train, f"{name}, training split", form_of(held_out))
    x, y = form_of(held_out)
    y = y[0] if weight_bound is not None else y
    spec = DataSpec(
        name=name,
        records=records,
        classes=classes,
        shape=shapes_of(x),
        scaling=scaling or (BYTES if _holds_bytes(make, test, held_out) else Scaling()),
        task=task_of(y, name) if chosen is None else chosen,
        target=shapes_of(y),
        weight_bound=weight_bound,
        unit=unit,
        common_inputs=common_inputs,
    )
    if isinstance(units, str):
        where = told_of(train, f"{name}, training split")
        units, test_units = column_of(train, units, where), column_of(test, units, None)
    ids = None if unit is None else UnitIds.of(unit.name, units, test_units)
    return Data(spec, private, held_out, ids)


def _holds_bytes(make: Maker, test: Any, held_out: Source) -> bool:
    """Whether the held-out inputs are stored as bytes: what the declared scaling is then."""
    if is_table(test) or not len(held_out):
        return False
    if isinstance(test, torch.utils.data.TensorDataset):
        test = test.tensors
    if is_dataset(test):
        x = make.parts(test[0], "", False).x
    else:
        x = mapped(lambda column: column[0], make.parts(test, "", is_column(test)).x)
    return any(holds_bytes(leaf) for leaf in mapped_leaves(x))
