"""A bound for every group of coordinates, by a quantile of the group's norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, State, register
from dpigu.mechanisms.clippers.queries import GroupCounts, answer
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("clipper", "group-quantile")
@dataclass(frozen=True, kw_only=True)
class GroupQuantile:
    """Bounds of groups in proportion to a quantile of the rows' norms there; the joint bound stays.

    factor_G = min(1, C_G/‖z_G‖₂),  C_G = C·q_G/√Σ_G q_G²,  q_G ← q_G·exp(−η·(b̃_G − γ))

    q_G settles at the γ-quantile of the norms in group G: b̃_G is the released share of records
    within q_G, cut to [0, 1], from the query `group-counts` beside it, which is noised jointly
    with the gradient. Noise is that of C on every coordinate, and C never moves: the learning rate
    keeps its meaning, and correlated noise goes with it. A group that is frozen, whose norms are
    0, gives its share to the others.

    Args:
        bound: C, the joint bound, finite and above 0.
        groups: what a group is, as `per-group`.
        quantile: γ, in (0, 1).
        rate: η, above 0.
        limit: q_G stays within a factor of it from where it starts, C/√G; at least 1.

    State: `quantiles_G`, q_G, and `bounds_G`, C_G; float64.

    Errors: `GrammarError` if the query is not in the pipeline.

    Source: after He et al. 2023 (arXiv 2212.01539), adaptive per-layer clipping; the rule is that
    of Andrew et al. 2021 (arXiv 1905.03871), for each group.
    Privacy: declares the joint bound C; reads the record's norm in each group, and learns from
    the noised counts alone; the kernel caps the factors jointly; checked by
    tests/mechanisms/clippers/test_group_quantile.py.
    """

    bound: float = 1.0
    groups: Literal["parameter", "layer", "filter"] = "layer"
    quantile: float = 0.5
    rate: float = 0.2
    limit: float = 1000.0
    asks: ClassVar[tuple[str, ...]] = ("group-counts",)

    def __post_init__(self) -> None:
        require(0 < self.bound < math.inf, self, "bound", "a finite number above 0")
        known = ("parameter", "layer", "filter")
        require(self.groups in known, self, "groups", " or ".join(known))
        require(0 < self.quantile < 1, self, "quantile", "a share in (0, 1)")
        require(0 < self.rate < math.inf, self, "rate", "a finite number above 0")
        require(1 <= self.limit < math.inf, self, "limit", "at least 1, and finite")

    def init(self, context: PhaseContext, reads: Reads) -> State:
        count = context.space.group_count(self.groups)
        ones_G = torch.ones(count, dtype=torch.float64, device=context.weights_D.device)
        return self._of(self.bound / math.sqrt(count) * ones_G)

    def update(self, state: State, release: Release, reads: Reads) -> State:
        value_G = answer(release, self, GroupCounts)
        start = self.bound / math.sqrt(len(value_G))
        within_G = (0.5 + value_G * math.sqrt(len(value_G))).clamp(0, 1)
        moved_G = state["quantiles_G"] * torch.exp(-self.rate * (within_G - self.quantile))
        return self._of(moved_G.clamp(start / self.limit, start * self.limit))

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(self.bound, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (state["bounds_G"] / norms_G).clamp(max=1)

    def _of(self, quantiles_G: Tensor) -> State:
        bounds_G = self.bound * quantiles_G / torch.linalg.vector_norm(quantiles_G)
        return {"quantiles_G": quantiles_G, "bounds_G": bounds_G}
