"""From the host to a device, without the host waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


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
