"""AdaCliP: centre and scale every coordinate by what was released."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from dpigu.dpcore import Affine, PhaseContext, Reads, Release, Space, State, register
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("row", "adaclip")
@dataclass(frozen=True, kw_only=True)
class AdaClip:
    """Centres every coordinate and scales it where the noise it saves is most.

    z = (g − m)/b,  b ∝ √s, normalised so that Σ_j s_j²/b_j² = Σ_j s_j²

    s² ← β₂·s² + (1 − β₂)·clamp((ĝ − m)² − v, h₁, h₂),  m ← β₁·m + (1 − β₁)·ĝ, on the support

    ĝ is the released gradient after the posts, v its noise variance, m the old mean: put
    `affine-restorer` with of = "adaclip" into the posts. b ∝ √s minimises the noise energy
    Σ b_j² at a given Σ s_j²/b_j². Only ratios of s matter here: the paper sets Σ s²/b² = 1 with
    C = 1; ours keeps the typical norm of a row, so that C keeps its unit, and B cancels.

    One step's (ĝ − m)² − v has a standard error of √2·v. At the usual signal-to-noise ratio s is
    therefore mostly the noise of its own estimate; `group-standardizer` pools coordinates, and
    says when there is nothing to be learnt.

    Args:
        mean_decay: β₁, the memory of m, in [0, 1).
        decay: β₂, the memory of s², in [0, 1).
        least, most: h₁ and h₂, in the unit of ĝ²; 0 < h₁ < h₂. s starts at (h₁h₂)^¼ everywhere,
            m at 0.

    State: `mean_D` (m), `spread2_D` (s²), float64.

    Source: Pichapati, Suresh, Yu, Reddi and Kumar 2019, "AdaCliP" (arXiv 1908.07643),
    Algorithm 2 and theorem 3; its h₁ = 1e-12, h₂ = 10, β₁ = 0.99, β₂ = 0.9.
    Privacy: no bound of its own, the clipper comes after it; learns from released gradients and
    their public variance only; checked by tests/mechanisms/rows/test_adaclip.py.
    """

    mean_decay: float = 0.99
    decay: float = 0.9
    least: float = 1e-12
    most: float = 10.0

    def __post_init__(self) -> None:
        require(0 <= self.mean_decay < 1, self, "mean_decay", "a decay in [0, 1)")
        require(0 <= self.decay < 1, self, "decay", "a decay in [0, 1)")
        require(0 < self.least < math.inf, self, "least", "a finite number above 0")
        require(self.least < self.most < math.inf, self, "most", f"above {self.least:g}, finite")

    def output_space(self, space: Space) -> Space:
        return space

    def init(self, context: PhaseContext, reads: Reads) -> State:
        mean_D = torch.zeros_like(context.weights_D, dtype=torch.float64)
        start = math.sqrt(self.least) * math.sqrt(self.most)
        return {"mean_D": mean_D, "spread2_D": torch.full_like(mean_D, start)}

    def affine(self, state: State) -> Affine:
        spread_D = state["spread2_D"].sqrt()
        pooled = spread_D.sum() / state["spread2_D"].sum()
        weight_D = (spread_D * pooled).rsqrt()
        return Affine(weight_D, weight_D * state["mean_D"])

    def row(self, state: State, g_D: Tensor) -> Tensor:
        weight_D, shift_D = self.affine(state).dense()
        return weight_D.to(g_D.dtype) * g_D - shift_D.to(g_D.dtype)

    def update(self, state: State, release: Release, reads: Reads) -> State:
        mean_D, spread2_D = state["mean_D"], state["spread2_D"]
        live_D = release.support_D.to(torch.float64)
        residual_D = release.gradient.value - mean_D
        excess_D = (residual_D**2 - release.gradient.variance).clamp(self.least, self.most)
        return {
            "mean_D": mean_D + live_D * (1 - self.mean_decay) * residual_D,
            "spread2_D": spread2_D + live_D * (1 - self.decay) * (excess_D - spread2_D),
        }
