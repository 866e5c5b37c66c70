"""Standardizers: diagonal affine maps of a row, learnt from released gradients.

Each declares `affine`, and its `row` and the restorer are computed from that one map, so that
restoring inverts standardizing to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from dpigu.dpcore import Affine, PhaseContext, Reads, Release, Space, State, register
from dpigu.dpcore.devices import pieces, unwritten
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.mechanisms.validate import require
from torch import Tensor


def apply(affine: Affine, g_D: Tensor) -> Tensor:
    """weight ⊙ g − shift, in the row's own dtype."""
    z_D = affine.weight_D.to(g_D.dtype) * g_D
    return z_D if affine.shift_D is None else z_D - affine.shift_D.to(g_D.dtype)


@register("row", "ema-standardizer")
@dataclass(frozen=True, kw_only=True)
class EmaStandardizer:
    """The paper's standardizer: centre and scale each coordinate by released moving moments.

    z = (g − α) / (√β + μ)

    α ← γ₁·α + (1 − γ₁)·ĝ,  β ← γ₂·β + (1 − γ₂)·(ĝ − α)², with the old α, on the support

    ĝ is the released gradient after the posts: put the restorer that names this stage there.
    Frozen coordinates keep their moments. α₀ = 0 and β₀ = 1, which the paper leaves open.

    This is the paper's rule made private, and it adapts almost nothing: β follows the variance
    of the noisy *mean*, the noise is itself proportional to √β, so √β decays like γ₂^(t/2) in
    every coordinate alike. What remains is DP-SGD with a shrinking step. Also, α and β are
    estimated at a signal-to-noise ratio of order B/(σ²D). `group-standardizer` is the one that
    works.

    Args:
        gamma1, gamma2: γ₁ and γ₂, the decay of the moments, in [0, 1). The paper gives none.
        mu: μ, above 0, in the gradient's unit.

    State: `alpha_D`, `beta_D`, float64.

    Source: arXiv 2507.06525, section 4 and Algorithm 2, line 13 (line 9 has √(β + μ), which
    line 13 does not invert) and line 15.
    Privacy: no bound of its own, the clipper comes after it; learns from released gradients
    only (the paper's code used unnoised ones); checked by tests/mechanisms/rows.
    """

    gamma1: float = 0.9
    gamma2: float = 0.999
    mu: float = 1e-8

    def __post_init__(self) -> None:
        require(0 <= self.gamma1 < 1, self, "gamma1", "a decay in [0, 1)")
        require(0 <= self.gamma2 < 1, self, "gamma2", "a decay in [0, 1)")
        require(0 < self.mu < math.inf, self, "mu", "a finite number above 0")

    def output_space(self, space: Space) -> Space:
        return space

    def init(self, context: PhaseContext, reads: Reads) -> State:
        alpha_D = torch.zeros_like(context.weights_D, dtype=torch.float64)
        return {"alpha_D": alpha_D, "beta_D": torch.ones_like(alpha_D)}

    def affine(self, state: State) -> Affine:
        weight_D = 1 / (state["beta_D"].sqrt() + self.mu)
        return Affine(weight_D, weight_D * state["alpha_D"])

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return apply(self.affine(state), g_D)

    def update(self, state: State, release: Release, reads: Reads) -> State:
        alpha_D, beta_D = state["alpha_D"], state["beta_D"]
        residual_D = release.gradient.value - alpha_D
        live_D = release.support_D.to(torch.float64)
        return {
            "alpha_D": alpha_D + live_D * (1 - self.gamma1) * residual_D,
            "beta_D": beta_D + live_D * (1 - self.gamma2) * (residual_D**2 - beta_D),
        }


@register("row", "group-standardizer")
@dataclass(frozen=True, kw_only=True)
class GroupStandardizer:
    """One scale a group, where the noise it saves is most: AdaCliP's optimum, for groups.

    z = g / b,  b_G ∝ √s_G,  normalised so that Σ_j s_j²/b_j² = Σ_j s_j²

    s_G² is the mean square of a record's gradient in a coordinate of group G. The
    normalisation keeps the typical norm of a row, so the clipping bound keeps its meaning.
    Against one scale for all, noise energy falls by the factor 1 + CV²(s).

    A batch mean's own variance tells s: under Poisson sampling at rate q with the divisor B it
    is (1 − q)·E[g²]/B, whatever the mean of g, so nothing is centred. It is buried in noise whose
    variance v is known, and so is w, the noise variance in the moving mean m:

    d = ĝ − m,  s_G² ∝ mean over G and recent steps of d² − v − w,  standard error √Σd⁴ / count

    (Σd⁴ is the variance of Σd² for normal d, the dependence of steps through m included: at
    most 3/2 of that of independent ones.) A group takes the value nearest to the pooled s² that
    its estimate ± `certainty` standard errors allows, so noise alone moves nothing. While
    the pooled estimate itself is that close to 0, every weight is 1. Only ratios matter, and B
    cancels. What the mean drifts in 1/(1 − mean_decay) steps is taken for spread too.

    Args:
        grouping: what a group is; a newly live coordinate takes the scale of its group.
        refresh: steps between new scales; the first come after `refresh` steps.
        decay: memory of the sums over steps, in [0, 1); about 1/(1 − decay) steps count.
        mean_decay: memory of m, in [0, 1); 0 compares with the step before.
        certainty: standard errors, at least 0.
        limit: b stays within [1/limit, limit] of the pooled scale before normalising, at least 1.

    State: `weight_D` = 1/b; `groups_D`; `mean_D`, `noise_D` (w), `seen_D` for coordinates that
    have been live; `excess_G`, `fourth_G`, `count_G`, the sums. float64.

    Source: Pichapati et al., AdaCliP, arXiv 1908.07643 (per coordinate, centred).
    Privacy: no bound of its own, the clipper comes after it; learns from released gradients
    and their public variance only; checked by tests/mechanisms/rows/test_group_standardizer.py.
    """

    grouping: Grouping = "layer"
    refresh: int = 50
    decay: float = 0.99
    mean_decay: float = 0.9
    certainty: float = 3.0
    limit: float = 3.0

    def __post_init__(self) -> None:
        require(self.refresh >= 1, self, "refresh", "at least 1")
        require(0 <= self.decay < 1, self, "decay", "a decay in [0, 1)")
        require(0 <= self.mean_decay < 1, self, "mean_decay", "a decay in [0, 1)")
        require(self.certainty >= 0, self, "certainty", "at least 0")
        require(1 <= self.limit < math.inf, self, "limit", "at least 1, and finite")

    @property
    def weighs_by_parameter(self) -> bool:
        return self.grouping != "filter"

    def output_space(self, space: Space) -> Space:
        return space

    def init(self, context: PhaseContext, reads: Reads) -> State:
        zeros_D = torch.zeros_like(context.weights_D, dtype=torch.float64)
        zeros_G = zeros_D.new_zeros(context.space.group_count(self.grouping))
        return {
            "weight_D": torch.ones_like(zeros_D),
            "groups_D": context.space.groups(self.grouping).to(zeros_D.device),
            "mean_D": zeros_D,
            "noise_D": zeros_D,
            "seen_D": zeros_D.to(torch.bool),
            "excess_G": zeros_G,
            "fourth_G": zeros_G,
            "count_G": zeros_G,
        }

    def affine(self, state: State) -> Affine:
        return Affine(state["weight_D"])

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return apply(self.affine(state), g_D)

    def update(self, state: State, release: Release, reads: Reads) -> State:
        size, device = len(state["mean_D"]), state["mean_D"].device
        mean_D, noise_D = unwritten(size, device), unwritten(size, device)
        sums_3G = torch.zeros_like(torch.stack([state["count_G"]] * 3))
        whole = (*(state[key] for key in ("mean_D", "noise_D", "seen_D", "groups_D")),)
        released = (release.support_D, release.gradient.value)
        for here in pieces(size, device):
            mean_P, noise_P, seen_P, groups_P, live_P, value_P = (
                v[here] for v in (*whole, *released)
            )
            variance_P = release.gradient.variance_at(here)
            again_P, moved_P = (live_P & seen_P).to(torch.float64), value_P - mean_P
            square_P = moved_P.square().mul_(again_P)
            excess_P = torch.addcmul(square_P, variance_P + noise_P, again_P, value=-1.0)
            _add_by_group(sums_3G, groups_P, (excess_P, square_P.square_(), again_P))
            share_P = torch.sub(live_P.to(torch.float64), again_P, alpha=self.mean_decay)
            torch.addcmul(mean_P, share_P, moved_P, out=mean_D[here])
            rest_P = (1.0 - share_P).square_().mul_(noise_P)
            torch.addcmul(rest_P, share_P.square_(), variance_P, out=noise_D[here])
        excess_G = self.decay * state["excess_G"] + sums_3G[0]
        fourth_G = self.decay**2 * state["fourth_G"] + sums_3G[1]
        count_G = self.decay * state["count_G"] + sums_3G[2]
        weight_D = state["weight_D"]
        if (release.clock.step + 1) % self.refresh == 0:
            weight_D = self.weights(excess_G, fourth_G, count_G)[state["groups_D"]]
        return {
            "weight_D": weight_D,
            "groups_D": state["groups_D"],
            "mean_D": mean_D,
            "noise_D": noise_D,
            "seen_D": state["seen_D"] | release.support_D,
            "excess_G": excess_G,
            "fourth_G": fourth_G,
            "count_G": count_G,
        }

    def weights(self, excess_G: Tensor, fourth_G: Tensor, count_G: Tensor) -> Tensor:
        """1/b for every group, from the sums of d² − v − w, of d⁴, and of coordinates."""
        pooled = excess_G.sum() / count_G.sum()
        certain = pooled > self.certainty * fourth_G.sum().sqrt() / count_G.sum()
        unseen_G = count_G == 0
        margin_G = torch.where(unseen_G, torch.inf, self.certainty * fourth_G.sqrt() / count_G)
        estimate_G = torch.where(unseen_G, pooled, excess_G / count_G)
        nearest_G = pooled.clamp(estimate_G - margin_G, estimate_G + margin_G)
        s2_G = (nearest_G / pooled).clamp(self.limit**-4, self.limit**4)
        b2_G = s2_G.sqrt()
        b2_G = b2_G * (count_G @ (s2_G / b2_G)) / (count_G @ s2_G)
        return torch.where(certain, b2_G.rsqrt(), 1.0)


def _add_by_group(sums_3G: Tensor, groups_P: Tensor, x_3P: tuple[Tensor, ...]) -> None:
    """Add the coordinates of each group; on a processor, where it is a pass, all that are one's
    at once."""
    if groups_P.device.type == "cpu" and bool(torch.eq(*groups_P.aminmax())):
        sums_3G[:, groups_P[0]] += torch.stack([x_P.sum() for x_P in x_3P])
    else:
        sums_3G.index_add_(1, groups_P, torch.stack(x_3P))
