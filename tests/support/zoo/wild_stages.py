"""Stages that keep to no bound, and the space in which laws are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from dpigu.dpcore import Affine, Reads, Space, State
from dpigu.dpcore.grammar.spaces import Grouping
from torch import Tensor

SPACE = Space(("one.weight", "one.bias", "two.weight"), ((4, 3), (4,), (2, 4)))


@dataclass(frozen=True, kw_only=True)
class WildClipper:
    """A clipper of any grouping whose factors are whatever it likes: only the guard bounds it."""

    bound: float
    groups: Grouping
    factor: float
    proportional: bool

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(self.bound, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return self.factor * (norms_G if self.proportional else torch.ones_like(norms_G))


@dataclass(frozen=True, kw_only=True)
class WildQuery:
    """A query of three numbers that keeps to no bound."""

    bound: float
    factor: float
    noise_ratio: float = 2.0
    size: int = 3

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        return self.factor * norms_G.sum() * torch.ones(3, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """An affine row map with a large shift: rows cancel, and frozen coordinates move off 0."""

    shift: float = 1e3

    def output_space(self, space: Space) -> Space:
        return space

    def affine(self, state: State) -> Affine:
        ones_D = torch.ones(SPACE.size, dtype=torch.float64)
        return Affine(ones_D, self.shift * ones_D)

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D - self.shift


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """A projection of a row to five coordinates, by a fixed public matrix."""

    def output_space(self, space: Space) -> Space:
        return Space.flat("mixed", 5)

    def matrix(self) -> Tensor:
        return torch.from_numpy(np.random.default_rng(0).standard_normal((5, SPACE.size)))

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return self.matrix().to(g_D.dtype) @ g_D


@dataclass(frozen=True, kw_only=True)
class Unmixed:
    """The way back from `Mixed`."""

    def output_space(self, space: Space) -> Space:
        return SPACE

    def apply(self, state: State, released: Any, reads: Reads) -> Any:
        back_DK = Mixed().matrix().T
        return released.derive(back_DK @ released.value, back_DK**2 @ released.variance)
