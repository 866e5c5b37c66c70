"""Records of others, from an .npz: what a model is given, and what its outputs are held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dpigu.audits.external.tables import array_names, read_arrays
from dpigu.dpcore import DataError
from dpigu.trainers import TASKS, DataSpec, Scaling
from dpigu.trainers.data import BYTES
from dpigu.trainers.data.sources import Shapes
from numpy.typing import NDArray
from torch import Tensor

Form = tuple[tuple[str, tuple[int, ...], str], ...]
_TARGETS = {
    "margin": ("iu", 1, "y must be one integer for each record of x"),
    "squared-error": ("f", 0, "y must be numbers, a row for each record of x"),
    "log-likelihood": ("iu", 2, "y must be an integer for each token of each record"),
    "min-k": ("iu", 2, "y must be an integer for each token of each record"),
}
"""Kind, dimensions (0 for any) and what to say, by signal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Inputs and targets of some records.

    Args:
        inputs: arrays by name; `x` alone where the model takes one.
        y: targets. next_token: whether they are the inputs, each foretold from those before.
    """

    inputs: Mapping[str, NDArray[Any]] = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    next_token: bool

    @classmethod
    def read(cls, path: Path, signal: str) -> Records:
        """The records of a file.

        Raises: DataError for what is no .npz of plain arrays, or does not fit the signal.
        """
        found = array_names(path)
        names = [name for name in found if name.startswith("x.")] or ["x"]
        with_y = "y" in found
        arrays = read_arrays(path, (*names, *(("y",) if with_y else ())))
        inputs = {name.removeprefix("x."): arrays[name] for name in names}
        next_token = not with_y and signal in ("log-likelihood", "min-k")
        if not with_y and not next_token:
            read_arrays(path, ("y",))
        y = inputs["x"] if next_token else arrays["y"]
        kinds, dimensions, said = _TARGETS[signal]
        for x in inputs.values():
            if x.ndim < 2 or (x.dtype != np.uint8 and x.dtype.kind not in "fiu"):
                raise DataError(
                    "x must be bytes, floats or tokens, a record a row", where=str(path)
                )
        fits = y.dtype.kind in kinds and dimensions in (0, y.ndim)
        if not fits or not len(y) or any(len(x) != len(y) for x in inputs.values()):
            raise DataError(said, where=str(path))
        return cls(inputs=inputs, y=y, next_token=next_token)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.y)

    @property
    def named(self) -> bool:
        """Whether the model takes its inputs by name."""
        return list(self.inputs) != ["x"]

    @property
    def form(self) -> Form:
        """Names, shapes and types of one record's arrays."""
        arrays = [*self.inputs.items(), ("y", self.y)]
        kind = {"u": "i"}
        return tuple(
            (n, a.shape[1:], str(a.dtype) if n != "y" else kind.get(a.dtype.kind, a.dtype.kind))
            for n, a in arrays
        )

    def and_(self, others: Records) -> Records:
        """These records, then the others."""
        inputs = {n: np.concatenate([x, others.inputs[n]]) for n, x in self.inputs.items()}
        return Records(
            inputs=inputs, y=np.concatenate([self.y, others.y]), next_token=self.next_token
        )

    def spec(self, name: str, classes: int | None, signal: str) -> DataSpec:
        """What a factory may ask of the data."""
        shapes = {n: x.shape[1:] for n, x in self.inputs.items()}
        shape: Shapes = shapes if self.named else shapes["x"]
        if signal == "squared-error":
            task = TASKS["regression"]
            return DataSpec(name, self.count, None, shape, Scaling(), task, self.y.shape[1:])
        labels = self.y[self.y != -100] if self.y.ndim > 1 else self.y
        count = classes if classes is not None else max(2, int(labels.max()) + 1)
        if labels.min() < 0 or labels.max() >= count:
            raise DataError(
                "a label lies outside the classes", where="y", expected=f"0…{count - 1}"
            )
        return DataSpec(name, self.count, count, shape, Scaling())

    def batches(self, size: int) -> Iterator[tuple[Mapping[str, Tensor], Tensor]]:
        """Inputs as the model is given them, and targets."""
        for start in range(0, self.count, size):
            part = slice(start, start + size)
            y = self.y[part]
            inputs = {n: _tensor(x[part]) for n, x in self.inputs.items()}
            yield inputs, torch.from_numpy(y.astype(np.int64 if y.dtype.kind in "iu" else float))


def _tensor(x: NDArray[Any]) -> Tensor:
    """Bytes to [−1, 1], floats as they are, other integers as tokens."""
    if x.dtype == np.uint8:
        return BYTES.apply(x)
    if x.dtype.kind in "iu":
        return torch.from_numpy(x.astype(np.int64))
    return torch.from_numpy(x.astype(np.float32))
