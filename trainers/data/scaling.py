"""The declared input scaling, a public constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """The declared input scaling: (x / divisor − mean) / std, the same for every coordinate.

    Examples:
        >>> print(Scaling(divisor=255.0, mean=0.5, std=0.5))
        (x / 255 − 0.5) / 0.5
    """

    divisor: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    def __str__(self) -> str:
        return f"(x / {self.divisor:g} − {self.mean:g}) / {self.std:g}"

    def apply(self, x: NDArray[Any]) -> Tensor:
        """Return (x / divisor − mean) / std as float32, in the shape of x; x is not changed."""
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            scaled = x.astype(np.float32)
        scaled /= np.float32(self.divisor)
        scaled -= np.float32(self.mean)
        scaled /= np.float32(self.std)
        return torch.from_numpy(scaled)


BYTES = Scaling(255, 0.5, 0.5)
"""Bytes to [−1, 1]: known from the file format alone, not from any pixel."""
