"""Sharpness-aware steps without a second look at the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, State, register
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("point", "sharpness")
@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """The gradient uphill of the weights, along the gradient that the last step released.

    g_t = ∇ℓ(θ + ρ·ĝ_{t−1}/‖ĝ_{t−1}‖₂, x); at the first step, and after a zero gradient, at θ

    Sharpness-aware minimisation needs an ascent direction at every step; a fresh one would be a
    second release. The last one is free.

    Args:
        radius: ρ, the length of the step uphill, above 0, in the unit of the weights.

    State: `direction_D`, the released gradient at length 1, float64.

    Source: Park, Kim, Choi and Lee 2023, "Differentially Private Sharpness-Aware Training"
    (arXiv 2306.05651), DP-SAT, Algorithm 1; ρ = 0.03 is that of the authors' examples.
    Privacy: post-processing of released gradients and weights, so nothing more is charged;
    checked by tests/mechanisms/release/test_sharpness.py.
    """

    radius: float = 0.03

    def __post_init__(self) -> None:
        require(0 < self.radius < math.inf, self, "radius", "a finite number above 0")

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"direction_D": torch.zeros_like(context.weights_D, dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        g_D = release.gradient.value
        g_D = g_D / g_D.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
        norm = torch.linalg.vector_norm(g_D)
        return {"direction_D": torch.where(norm > 0, g_D / norm, 0.0)}

    def at(self, state: State, weights_D: Tensor, support_D: Tensor) -> Tensor:
        return weights_D + self.radius * state["direction_D"].to(weights_D.dtype)
