"""Where standard normal draws come from."""

from __future__ import annotations

import secrets
from typing import Protocol

import numpy as np
import torch
from dpigu.dpcore.sampling import system_generator
from torch import Tensor


class NoiseSource(Protocol):
    """Independent standard normal draws."""

    @property
    def private(self) -> bool:
        """False if anybody could draw the same values again."""
        ...

    def normal(self, size: int, device: torch.device) -> Tensor:
        """`size` fresh standard normal draws, float64."""
        ...


class SystemNoise:
    """Draws keyed afresh from the operating system's entropy on every call.

    Whoever can regenerate the noise can subtract it, so no key is kept or stored. On the CPU
    the key has 128 bits (Philox); on CUDA torch takes 64. Both are for statistics and not
    for cryptography; attacks on floating-point Gaussians (Mironov 2012) are out of scope.
    """

    private = True

    def normal(self, size: int, device: torch.device) -> Tensor:
        if device.type == "cpu":
            return torch.from_numpy(system_generator().standard_normal(size))
        generator = torch.Generator(device).manual_seed(secrets.randbits(63))
        return torch.randn(size, generator=generator, device=device, dtype=torch.float64)


class ReproducibleNoise:
    """Draws that a seed fixes: for tests; a run that uses them is marked as not private."""

    private = False

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def normal(self, size: int, device: torch.device) -> Tensor:
        return torch.from_numpy(self._generator.standard_normal(size)).to(device)
