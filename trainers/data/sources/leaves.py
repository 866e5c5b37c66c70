"""From what a record holds (arrays, numbers, images, lists) to tensors, one leaf at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from dpigu.dpcore.errors import DataError
from dpigu.trainers.data.scaling import BYTES, Scaling
from numpy.typing import NDArray
from torch import Tensor

TEXT = "text is no tensor: encode it first, by a tokenizer or a list of categories that you declare"


@dataclass(frozen=True)
class Inputs:
    """Makes tensors of inputs: floats and bytes scaled, integers and booleans as they are.

    NumPy's floats become float32; a tensor keeps its type unless it holds bytes.

    Args:
        scaling: the declared one, of floats and bytes; None scales bytes by `BYTES` only.
    """

    scaling: Scaling | None = None

    def __call__(self, value: Any) -> Tensor:
        if isinstance(value, Tensor) and value.dtype != torch.uint8:
            if self.scaling is None or not value.is_floating_point():
                return value
            scaling = self.scaling
            return (value / scaling.divisor - scaling.mean) / scaling.std
        array = array_of(value)
        if array.dtype == np.uint8:
            return (self.scaling or BYTES).apply(array)
        if array.dtype.kind == "f":
            return (self.scaling or Scaling()).apply(array)
        return torch.from_numpy(array.astype(np.int64) if array.dtype.kind in "iu" else array)


def holds_bytes(value: Any) -> bool:
    """Whether a value is stored as bytes."""
    kind = value.dtype if isinstance(value, Tensor) else array_of(value).dtype
    return kind in (torch.uint8, np.uint8)


def target(value: Any) -> Tensor:
    """A tensor of targets: integers as int64, NumPy's floats as float32, the rest as it is."""
    if isinstance(value, Tensor):
        whole = value.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32)
        return value.long() if whole else value
    array = array_of(value)
    kind = {"i": np.int64, "u": np.int64, "f": np.float32}.get(array.dtype.kind)
    return torch.from_numpy(array if kind is None else array.astype(kind))


def array_of(value: Any) -> NDArray[Any]:
    """A value as an array of numbers or booleans; images with their channels first.

    Errors: `DataError` for anything else; it names types and no value.
    """
    if isinstance(value, Tensor):
        return np.asarray(value.cpu().numpy())
    array = np.asarray(value)
    if hasattr(value, "getbands"):  # an image of Pillow
        array = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
    if array.dtype.kind not in "biuf":
        kind = "text" if array.dtype.kind in "US" or isinstance(value, str) else None
        raise DataError(
            TEXT if kind else "a record holds what is no array of numbers",
            where="records",
            got=kind or (f"{type(value).__name__} of {array.dtype}"),
            remedy="" if kind else "Sequences of several lengths want pad_to.",
        )
    return np.asarray(array, order="C")
