"""Post maps that shrink the released vector by the noise it is known to carry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, Released, Space, State, register
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.mechanisms.validate import require


@register("post", "james-stein")
@dataclass(frozen=True, kw_only=True)
class JamesStein:
    """Shrinks each group towards 0 by the share of its energy that is noise.

    ĝ_G = y_G · max(0, 1 − (n_G − 2)/Σ_{j∈G} y_j²/v_j)

    y is the released vector, v its known noise variance, n_G the coordinates of the group that
    have noise; those without stay as they are, and so does a group of fewer than three. With one
    v in the group the expected squared error is below n_G·v for every mean θ; for
    θ ~ N(0, τ²) it is at most v·(n_G − (n_G − 2)·v/(τ² + v)). With different v the same holds of
    the error in units of √v.

    It is an estimator of one step's gradient. Momentum already averages over steps, and a
    shrunken step is a smaller step: expect to raise the learning rate. The declared variance is
    that of y, an upper bound (of the group's sum); a stage that subtracts it afterwards, such as
    `group-standardizer`, finds less spread than there is.

    Args:
        grouping: what is shrunk by one factor.

    State: `groups_K`, int64, and `size_G`, coordinates a group, float64; no step changes them.

    Source: James and Stein 1961, positive part; as post-processing of the Gaussian mechanism
    Balle and Wang 2018 (arXiv 1805.06530), section 4.
    Privacy: post-processing of the released vector and of its public variance; the risk law is
    checked by tests/mechanisms/release/test_denoisers.py.
    """

    grouping: Grouping = "layer"

    def output_space(self, space: Space) -> Space:
        return space

    def init(self, context: PhaseContext, reads: Reads) -> State:
        groups_K, device = context.space.groups(self.grouping), context.weights_D.device
        size_G = torch.bincount(groups_K).to(torch.float64)
        return {"groups_K": groups_K.to(device), "size_G": size_G.to(device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        y_K, variance_K, groups_K = released.value, released.variance, state["groups_K"]
        noisy_K = variance_K > 0
        energy_K = torch.where(noisy_K, y_K**2 / torch.where(noisy_K, variance_K, 1.0), 0.0)
        zeros_G = torch.zeros_like(state["size_G"])
        energy_G = zeros_G.index_add(0, groups_K, energy_K)
        excess_G = (zeros_G.index_add(0, groups_K, noisy_K.to(y_K.dtype)) - 2).clamp(min=0)
        kept_G = 1 - excess_G / torch.maximum(energy_G, excess_G).clamp(min=1e-300)
        factor_K = torch.where(noisy_K, kept_G[groups_K], 1.0)
        return released.derive(factor_K * y_K, variance_K)


@register("post", "soft-threshold")
@dataclass(frozen=True, kw_only=True)
class SoftThreshold:
    """Moves every coordinate towards 0 by a multiple of its noise's standard deviation.

    ĝ_j = sign(y_j) · max(0, |y_j| − λ·√v_j)

    It pays where few coordinates hold most of the gradient. With λ = √(2·log K) noise alone is
    all but erased, at the price that every coordinate below λ standard deviations is too; at
    the usual signal-to-noise ratio that is nearly all of one step's. The declared variance is
    v, an upper bound: the map is 1-Lipschitz in each coordinate.

    Args:
        threshold: λ, in standard deviations, at least 0; or universal: √(2·log K).

    Source: Donoho and Johnstone 1994; as post-processing of the Gaussian mechanism Balle and Wang
    2018 (arXiv 1805.06530), section 4.
    Privacy: post-processing of the released vector and of its public variance; checked by
    tests/mechanisms/release/test_denoisers.py.
    """

    threshold: Literal["universal"] | float = "universal"

    def __post_init__(self) -> None:
        if isinstance(self.threshold, str):
            holds = self.threshold == "universal"
        else:
            holds = 0 <= self.threshold < math.inf
        require(holds, self, "threshold", "at least 0 and finite, or universal")

    def output_space(self, space: Space) -> Space:
        return space

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        y_K, variance_K = released.value, released.variance
        cut_K = self._deviations(len(y_K)) * variance_K.sqrt()
        return released.derive(y_K.sign() * (y_K.abs() - cut_K).clamp(min=0), variance_K)

    def _deviations(self, size: int) -> float:
        if isinstance(self.threshold, str):
            return math.sqrt(2 * math.log(size))
        return self.threshold
