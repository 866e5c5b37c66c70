"""Working memory that is used again: on a CPU, fresh pages cost more than the arithmetic."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Workspace:
    """Buffers by purpose. What `take` returns is valid until the next `take` for that purpose."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(
        self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Uninitialised memory of this shape."""
        size, key = math.prod(shape), (purpose, dtype, device)
        if key not in self._buffers or len(self._buffers[key]) < size:
            self._buffers[key] = torch.empty(size, dtype=dtype, device=device)
        return self._buffers[key][:size].view(shape)
