"""Clippers that scale every row, long or short: the size of a record's row is all but forgotten."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import State, register
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.mechanisms.validate import require
from torch import Tensor

SMALLEST = 2.0**-500


@register("clipper", "automatic")
@dataclass(frozen=True, kw_only=True)
class Automatic:
    """Every row is brought near the bound, short ones less than long ones.

    factor = C/(‖z‖₂ + γ), so the clipped norm is C·‖z‖/(‖z‖ + γ) < C

    C scales the step and its noise alike, so only C · learning rate counts (with adam not even
    that): there is one number less to tune.

    Args:
        bound: C, finite and above 0.
        gamma: γ, the stability constant, above 0, in the unit of the rows; rows much shorter than
            it keep their order of size.

    Source: Bu, Wang, Zha and Karypis 2023, "Automatic clipping", AUTO-S, equation 4.1
    (arXiv 2206.07136).
    Privacy: declares the bound C; reads the record's own norm; the kernel caps the factor;
    checked by tests/mechanisms/clippers/test_scaled.py.
    """

    bound: float = 1.0
    gamma: float = 0.01
    groups: ClassVar[Grouping] = "all"

    def __post_init__(self) -> None:
        require(0 < self.bound < math.inf, self, "bound", "a finite number above 0")
        require(0 < self.gamma < math.inf, self, "gamma", "a finite number above 0")

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(self.bound, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return self.bound / (norms_G + self.gamma)


@register("clipper", "normalised")
@dataclass(frozen=True, kw_only=True)
class Normalised:
    """Every row is brought to the bound exactly; only its direction counts.

    factor = C/‖z‖₂, and 0 for the zero row

    A row shorter than 2⁻⁵⁰⁰·C counts as zero. Where the gradients of records cancel at the
    optimum without vanishing, their directions need not: training then stalls short of it.
    `automatic` mends this.

    Args:
        bound: C, finite and above 0.

    Source: Bu et al. 2023 (arXiv 2206.07136), AUTO-V; Das et al. 2021 (arXiv 2106.07094), who
    normalise updates of federated clients.
    Privacy: declares the bound C; reads the record's own norm; the kernel caps the factor;
    checked by tests/mechanisms/clippers/test_scaled.py.
    """

    bound: float = 1.0
    groups: ClassVar[Grouping] = "all"

    def __post_init__(self) -> None:
        require(0 < self.bound < math.inf, self, "bound", "a finite number above 0")

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(self.bound, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return torch.where(norms_G > SMALLEST * self.bound, self.bound / norms_G, 0.0)
