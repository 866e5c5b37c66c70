"""The unit of privacy, where it is not one record: what a claim says that it protects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from dpigu.dpcore.errors import DataError

Reduce = Literal["mean", "sum"]
RECORD = "record"
"""What the unit of privacy is called where nothing else is declared."""


@dataclass(frozen=True)
class Unit:
    """What is declared of the unit of privacy, where it is not one record; all of it public.

    Args:
        name: what a unit is called: the column that says whose a record is, or "person".
        records: K, the most of its records that make its row at a step; drawn among them anew
            every time.
        reduce: a row is the gradient of their mean loss, or of their sum. The sensitivity is the
            clipping norm either way. A mean has about the same norm for few records as for many,
            so that one clipping norm suits all units, and each counts as much as another; in a
            sum those with more records count more, until they are clipped.

    Raises:
        DataError: a number of records below 1, or another word for `reduce`.

    Examples:
        >>> Unit("person", 5).row
        'the mean of the gradients of at most 5 of its records'
    """

    name: str
    records: int
    reduce: Reduce = "mean"

    def __post_init__(self) -> None:
        whole = isinstance(self.records, int) and not isinstance(self.records, bool)
        if not whole or self.records < 1:
            raise DataError(
                "the declared number of records of a unit must be a whole number, 1 or more",
                where=f"unit {self.name}",
                got=self.records,
                remedy="Declare how many records of a unit may make its row: `records_per_unit`.",
            )
        if self.reduce not in get_args(Reduce):
            raise DataError(
                "a unit's row is the mean or the sum of its records' gradients",
                where=f"unit {self.name}",
                got=self.reduce,
                expected=" or ".join(get_args(Reduce)),
            )

    @property
    def row(self) -> str:
        """What a unit's row is, for a reader."""
        if self.records == 1:
            return "the gradient of one of its records"
        return f"the {self.reduce} of the gradients of at most {self.records} of its records"


def called(unit: Unit | None) -> str:
    """What the unit of privacy is called."""
    return RECORD if unit is None else unit.name
