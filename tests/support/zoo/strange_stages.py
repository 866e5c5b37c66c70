"""Stages for tests of the grammar: a projection, its way back, a query, and misfits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import Space


@dataclass(frozen=True, kw_only=True)
class FirstHalf:
    """A row map from D to D // 2 coordinates."""

    def output_space(self, space):
        return Space.flat("half", space.size // 2)

    def row(self, state, g_D):
        return g_D[: len(g_D) // 2]


@dataclass(frozen=True, kw_only=True)
class Padded:
    """A post map back to a space of `size` coordinates."""

    size: int

    def output_space(self, space):
        return Space.flat("all", self.size)

    def apply(self, state, released, reads):
        more = torch.zeros(self.size - len(released.value), dtype=torch.float64)
        return released.derive(
            torch.cat([released.value, more]), torch.cat([released.variance, more])
        )


@dataclass(frozen=True, kw_only=True)
class Share:
    """A query of one bounded number."""

    noise_ratio: float = 1.0
    bound: float = 1.0
    size: int = 1

    def vector(self, state, norms_G, reads):
        return (norms_G <= 1.0).double()[:1]


@dataclass
class Warm:
    """A noiser whose options can be assigned: refused."""

    law: str = "gaussian"
    noise_multiplier: float = 1.0
