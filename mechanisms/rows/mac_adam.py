"""DP-MacAdam: the moments that steer Adam also centre and scale a record's gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from dpigu.dpcore import Affine, PhaseContext, Reads, Release, Space, State, register
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("row", "mac-adam")
@dataclass(frozen=True, kw_only=True)
class MacAdam:
    """Centres every coordinate at Adam's mean and scales it by the spread of what was released.

    z = (g − m̂)/b,  b = s^¼·(Σ_j s_j^½)^½, so that Σ_j s_j/b_j² = 1

    m ← β·m + (1 − β)·ĝ,  m̂ = m/(1 − β^t);  u ← β·u + (1 − β)·(ĝ − m̂)(ĝ − m̂′)

    s = clamp(u/κ − v, h₁, h₂),  κ = 2(β − β^t)/(1 + β), on the support

    ĝ is the released gradient after the posts (put `affine-restorer` with of = "mac-adam" there),
    v its noise variance, m̂′ the mean before this step. For independent ĝ the product of both
    distances is 2β/(1 + β) of a variance at every step but the first, where it is 0, so u/κ is
    unbiased; the square of the distance from m̂′, as in the authors' code, ends at 1/β of it.
    s is the spread of the *mean* gradient and a record's is √B times as large, so nearly every
    row is longer than 1, and is normalised: C = 1 is the authors', and another C scales ĝ alone.
    b starts at 1/D everywhere. One step tells no spread, so s is h₁ after the first; the authors'
    code divides by κ = 0 there, and goes on at h₂.
    With torch's Adam of the same β₁ the mean that centres is the one that steps.

    Args:
        decay: β = β₁ of Adam, in (0, 1).
        least, most: h₁ and h₂, in the unit of ĝ²; 0 < h₁ < h₂.

    State: `mean_D` (m), `square_D` (u), `spread2_D` (s), and `steps`, t; float64.

    Source: Tasnim, Sankar and Kosut 2026, DP-MacAdam (arXiv 2606.05435), and the authors' code
    (github.com/ntasnim2/dp-macadam): its b₀, h₁, h₂ and β; the product in u is this project's.
    Privacy: no bound of its own, the clipper comes after it; learns from released gradients and
    their public variance only; checked by tests/mechanisms/rows/test_mac_adam.py.
    """

    decay: float = 0.9
    least: float = 1e-9
    most: float = 1e-6

    def __post_init__(self) -> None:
        require(0 < self.decay < 1, self, "decay", "a decay in (0, 1)")
        require(0 < self.least < math.inf, self, "least", "a finite number above 0")
        require(self.least < self.most < math.inf, self, "most", f"above {self.least:g}, finite")

    def output_space(self, space: Space) -> Space:
        return space

    def init(self, context: PhaseContext, reads: Reads) -> State:
        zeros_D = torch.zeros_like(context.weights_D, dtype=torch.float64)
        return {
            "mean_D": zeros_D,
            "square_D": zeros_D,
            "spread2_D": torch.full_like(zeros_D, len(zeros_D) ** -3.0),
            "steps": zeros_D.new_zeros(()),
        }

    def affine(self, state: State) -> Affine:
        deviation_D = state["spread2_D"].sqrt()
        weight_D = (deviation_D * deviation_D.sum()).rsqrt()
        corrected = 1 - self.decay ** state["steps"].clamp(min=1)
        return Affine(weight_D, weight_D * state["mean_D"] / corrected)

    def row(self, state: State, g_D: Tensor) -> Tensor:
        weight_D, shift_D = self.affine(state).dense()
        return weight_D.to(g_D.dtype) * g_D - shift_D.to(g_D.dtype)

    def update(self, state: State, release: Release, reads: Reads) -> State:
        share, steps = 1 - self.decay, state["steps"] + 1
        live_D, gradient = release.support_D.to(torch.float64), release.gradient
        mean_D = state["mean_D"] + live_D * share * (gradient.value - state["mean_D"])
        before_D = state["mean_D"] / (1 - self.decay ** state["steps"].clamp(min=1))
        after_D = mean_D / (1 - self.decay**steps)
        product_D = (gradient.value - before_D) * (gradient.value - after_D)
        square_D = state["square_D"] + live_D * share * (product_D - state["square_D"])
        short = 2 * (self.decay - self.decay**steps) / (1 + self.decay)
        found_D = (square_D / short.clamp(min=1e-9) - gradient.variance).clamp(
            self.least, self.most
        )
        found_D = torch.where(steps > 1, found_D, self.least)
        spread2_D = torch.where(release.support_D, found_D, state["spread2_D"])
        return {"mean_D": mean_D, "square_D": square_D, "spread2_D": spread2_D, "steps": steps}
