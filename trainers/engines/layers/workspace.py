"""Working memory that is used again: on a CPU, fresh pages cost more than the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator

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


def blocks(records: int, step: int) -> Iterator[tuple[int, int]]:
    """Records lo to hi − 1, so many at a time."""
    for lo in range(0, records, step):
        yield lo, min(lo + step, records)


def wide(purpose: str, v: Tensor, workspace: Workspace) -> Tensor:
    """A copy in float64, in working memory."""
    return workspace.take(purpose, tuple(v.shape), torch.float64, v.device).copy_(v)
