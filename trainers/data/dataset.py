"""Data: sources of records beside the public constants that were declared for them.

Everything in a `DataSpec` is public and fixed before the records are read: how many records, or
units, are declared, the classes, the record's shape, the scaling. A data set with one record more
or less has the same spec; the declared number is never compared with the number that is there.

Held-out splits are public. Messages about a training split name what was declared and never a
value, a place or a count that was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dpigu.dpcore.errors import DataError
from dpigu.dpcore.unit import Unit
from dpigu.trainers.data.checks import check_split, wrong
from dpigu.trainers.data.scaling import BYTES, Scaling
from dpigu.trainers.data.sources import Shapes, Source, Tensors, form_of, forms_of, is_shape, pieces
from dpigu.trainers.data.units import ByUnit, Split, UnitIds
from dpigu.trainers.engines.records import Tree
from dpigu.trainers.tasks import CLASSIFICATION, Task
from torch import Tensor
from torch.utils._pytree import tree_leaves

PIECE = 1024
"""Records that are read at once where all of a split are looked at."""


@dataclass(frozen=True)
class DataSpec:
    """What is declared about a data set, all of it public.

    Args:
        name: the data set's name.
        records: the declared number of training records, or of units where `unit` says what
            those are; rate and divisor refer to it.
        classes: labels are 0 … classes − 1; None for a task that has none.
        shape: the shape of one record's input, channel first for images; a tuple or dict of
            shapes where the model takes several tensors.
        scaling: the fixed map from stored values to the model's inputs.
        task: what the model is trained for.
        target: the shape of one record's targets, likewise.
        weight_bound: the largest weight of a record, where targets are (targets, weights).
        unit: the unit of privacy, where it is not one record.
        common_inputs: several people may have equal inputs, by the owner's word; equal ones in
            the training and in a public split are then no sign of a shared record.

    Raises:
        DataError: a number is not a whole one of a sensible size.
    """

    name: str
    records: int
    classes: int | None
    shape: Shapes
    scaling: Scaling
    task: Task = CLASSIFICATION
    target: Shapes = ()
    weight_bound: float | None = None
    unit: Unit | None = None
    common_inputs: bool = False

    def __post_init__(self) -> None:
        numbers: list[tuple[str, object, int]] = [("records", self.records, 1)]
        if self.task.counts is not None or self.classes is not None:
            numbers.append(("classes", self.classes, 2))
        for option, value, least in numbers:
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise DataError(
                    f"the declared number of {option} must be a whole number, {least} or more",
                    where=self.name,
                    got=value,
                    remedy=f"Declare it as `{option}`."
                    + (f" For {self.task}: {self.task.counts}." if option == "classes" else ""),
                )
        if self.weight_bound is not None and not 0 < self.weight_bound < math.inf:
            raise DataError(
                "the declared bound of the weights must be above 0",
                where=self.name,
                got=self.weight_bound,
            )

    @property
    def outputs(self) -> int:
        """How many numbers a model puts out for a record, or for a token of one."""
        if self.classes is not None and self.task.name != "binary":
            return self.classes
        return math.prod(self.target) if is_shape(self.target) else 1


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: two sources of records, and what is declared of them. The test split is public.

    Records in memory are checked here; those of another source when they are read, all of them
    before anything is charged. So a run never meets a record that does not fit. The records stay
    out of `repr`, so that a logged object shows none. There may be no held-out record, as in
    public data; a run needs one.

    Args:
        spec: what is declared.
        train, test: sources; records in memory are `Tensors(x, y)`.
        units: whose the records are, where a unit of privacy is declared.

    Raises:
        DataError: a split of the wrong type, shape or length; a label outside 0 … classes − 1;
            an input that is not finite; a unit without ids, or ids without a unit.
    """

    spec: DataSpec
    train: Source = field(repr=False)
    test: Source = field(repr=False)
    units: UnitIds | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for split, source in self._splits.items():
            x, y = (source.x, source.y) if isinstance(source, Tensors) else form_of(source)
            check_split(self.spec, split, x, y)
        if not len(self.train):
            raise wrong(self.spec, "training", "there is no record")
        self._check_units()
        (here, _), (there, _) = form_of(self.train), form_of(self.test)
        if [v.dtype for v in tree_leaves(here)] != [v.dtype for v in tree_leaves(there)]:
            raise DataError(
                "the inputs of the two splits differ in type",
                where=self.spec.name,
                got=f"{forms_of(here)} for training, {forms_of(there)} held out",
            )

    def _check_units(self) -> None:
        if (self.units is None) != (self.spec.unit is None):
            raise DataError(
                "a unit of privacy is declared by its name and by whose every record is",
                where=self.spec.name,
                got="ids alone" if self.spec.unit is None else f"{self.spec.unit.name} alone",
                remedy="Give `units` and `records_per_unit` to data_from.",
            )
        for split, ids in () if self.units is None else self.units.splits:
            if len(ids) != len(self._splits[split]):
                raise wrong(self.spec, split, "the numbers of records and of their ids differ")

    @property
    def protected(self) -> Source:
        """What is sampled, clipped and protected: the training records, or their units."""
        if self.units is None or self.spec.unit is None:
            return self.train
        return ByUnit(self.train, self.spec.unit, self.units.train_N)

    @property
    def _splits(self) -> dict[Split, Source]:
        return {"training": self.train, "held-out": self.test}

    def batches(self, split: Split, size: int = PIECE) -> Iterator[tuple[Tree, Tree]]:
        """All records of a split in order, `size` at a time, each of them checked.

        Errors: `DataError` for a record that does not fit.
        """
        source = self._splits[split]
        for at in pieces(len(source), size):
            x_B, y_B = source.read(at)
            if not isinstance(source, Tensors):
                check_split(self.spec, split, x_B, y_B)
            yield x_B, y_B

    @property
    def train_x(self) -> Tensor:
        """The training inputs, where they are one tensor in memory."""
        return self._in_memory(self.train, "x")

    @property
    def train_y(self) -> Tensor:
        """The training targets, likewise."""
        return self._in_memory(self.train, "y")

    @property
    def test_x(self) -> Tensor:
        """The held-out inputs, likewise."""
        return self._in_memory(self.test, "x")

    @property
    def test_y(self) -> Tensor:
        """The held-out targets, likewise."""
        return self._in_memory(self.test, "y")

    def _in_memory(self, source: Source, part: str) -> Tensor:
        found = getattr(source, part) if isinstance(source, Tensors) else None
        if not isinstance(found, Tensor):
            raise DataError(
                "this needs records in memory, with one tensor for input and one for target",
                where=self.spec.name,
                got=type(source if found is None else found).__name__,
                remedy="Make the data from tensors or arrays that fit into memory.",
            )
        return found


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
