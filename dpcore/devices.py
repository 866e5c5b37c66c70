"""Devices: long vectors in pieces, and from the host to one without the host waiting for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

PIECE, PIECE_ON_DEVICE = 2**15, 2**22
"""Coordinates that are worked on at a time. On a processor a piece (256 KiB in float64) and what is
made of it stay in cache; on a device a launch takes microseconds, which a piece of 32 MiB hides."""


def pieces(size: int, device: torch.device) -> Iterator[slice]:
    """The coordinates of a long vector, some at a time: what is made of them stays small."""
    step = PIECE if device.type == "cpu" else PIECE_ON_DEVICE
    for at in range(0, size, step):
        yield slice(at, min(at + step, size))


def unwritten(size: int, device: torch.device) -> Tensor:
    """A float64 vector that is yet to be written.

    On a processor a long one lies in huge pages, where the system has them (numpy asks for them):
    to be given fresh pages of the usual size takes longer than to write them.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.empty(size))
    return torch.empty(size, dtype=torch.float64, device=device)


def to_device(v: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; what lies on the host goes there by pinned memory, queued.

    From pageable memory the copy would wait for everything that the device still has to do.
    """
    if device.type == "cpu" or v.device.type != "cpu" or v.numel() == 0:
        return v.to(device)
    return v.pin_memory().to(device, non_blocking=True)


def require(holds: Tensor, error: Exception) -> None:
    """`error` unless a boolean of no dimensions holds.

    On a device the host does not wait for the answer: the device stops there if it does not
    hold, so that nothing computed afterwards ever reaches the host.
    """
    if holds.device.type == "cpu":
        if not bool(holds):
            raise error
    else:
        torch._assert_async(holds, str(error))
