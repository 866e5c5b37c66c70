"""Declared shapes as plain data, and back: what a configuration can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpigu.dpcore.registry import dataclass_from
from dpigu.dpcore.unit import Unit
from dpigu.trainers.data.dataset import DataSpec
from dpigu.trainers.data.scaling import Scaling
from dpigu.trainers.data.sources import Shapes, is_shape
from dpigu.trainers.tasks import Task, task_named


def plain(shapes: Shapes) -> Any:
    """A tree of shapes as lists and tables."""
    if isinstance(shapes, Mapping):
        return {key: plain(part) for key, part in shapes.items()}
    return list(shapes) if is_shape(shapes) else [plain(part) for part in shapes]


def shapes_from(value: Any) -> Shapes:
    """The inverse of `plain`."""
    if isinstance(value, Mapping):
        return {key: shapes_from(part) for key, part in value.items()}
    return tuple(value) if is_shape(value) else tuple(shapes_from(part) for part in value)


def spec_from(table: Mapping[str, Any]) -> DataSpec:
    """The declared constants in the table `data` of a run's configuration.

    Errors: `DataError` for a task that is a user's own.
    """
    task: Task = task_named(table.get("task", "classification"))
    return DataSpec(
        table["name"],
        table["records"],
        table.get("classes"),
        shapes_from(table["shape"]),
        Scaling(**table["scaling"]),
        task,
        shapes_from(table.get("targets", ())),
        table.get("weight_bound"),
        None if "unit" not in table else dataclass_from(Unit, table["unit"], "data.unit"),
        table.get("common_inputs", False),
    )
