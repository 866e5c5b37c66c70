"""Clippers: from a record's norms to its factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import State, register
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("clipper", "flat")
@dataclass(frozen=True, kw_only=True)
class Flat:
    """One bound on the norm of the whole row.

    factor = min(1, C/‖z‖₂)

    Args:
        bound: C, finite and above 0, in the unit of the rows that reach it.

    Source: Abadi et al. 2016, Algorithm 1.
    Privacy: declares the bound C; reads the record's own norm; the kernel caps the factor
    again, and tests/mechanisms/clippers/test_boundary.py checks both.

    Examples:
        >>> import torch
        >>> Flat(bound=1.0).factors({}, torch.tensor([2.0]))
        tensor([0.5000])
    """

    bound: float
    groups: ClassVar[Grouping] = "all"

    def __post_init__(self) -> None:
        require(0 < self.bound < math.inf, self, "bound", "a finite number above 0")

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(self.bound, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (self.bound / norms_G).clamp(max=1)


@register("clipper", "unclipped")
@dataclass(frozen=True, kw_only=True)
class Unclipped:
    """No bound at all: for non-private pipelines, the only ones that accept it.

    factor = 1

    Privacy: none; the bound is inf, and `Pipeline` refuses noise without a finite bound
    (checked by tests/mechanisms/clippers/test_boundary.py).
    """

    groups: ClassVar[Grouping] = "all"

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(math.inf, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return torch.ones_like(norms_G)
