"""Clippers with a bound for every group of coordinates, and the joint bound that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from dpigu.dpcore import GrammarError, PhaseContext, Reads, Release, State, register
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("clipper", "per-group")
@dataclass(frozen=True, kw_only=True)
class PerGroup:
    """A bound of its own for each group of coordinates, with one joint bound.

    factor_G = min(1, C_G/‖z_G‖₂),  C_G = C · w_G/√Σ_G w_G²,  so that √Σ_G C_G² = C

    A long part of a row no longer drags its other parts down with it. The noise is that of the
    joint bound C on every coordinate. Bounds C_1, C_2, … of your own are
    bound = √Σ C_G², weights = (C_1, C_2, …): as for a row of two blocks, embedding and residual.

    Args:
        bound: C, the joint bound, finite and above 0.
        groups: what a group is: `parameter` (one a block), `layer` (one a module) or `filter`
            (one an output channel).
        weights: equal (C_G = C/√G), dimension (C_G = C·√(D_G/D)), or one positive number a group,
            in the order of the space.

    State: `bounds_G`, C_G, float64, which no step changes. Frozen groups keep their share of
    the bound.

    Errors: `GrammarError` if there is not one weight a group.

    Source: `equal` is the per-layer clipping of McMahan et al. 2018 (arXiv 1710.06963);
    `dimension` is the rule of TensorFlow Federated's per-vector clipping; group-wise with a joint
    bound: He et al. 2023 (arXiv 2212.01539).
    Privacy: declares the joint bound C; reads the record's norm in each group; the kernel caps
    the factors jointly; checked by tests/mechanisms/clippers/test_per_group.py.
    """

    bound: float = 1.0
    groups: Literal["parameter", "layer", "filter"] = "layer"
    weights: Literal["equal", "dimension"] | tuple[float, ...] = "equal"

    def __post_init__(self) -> None:
        require(0 < self.bound < math.inf, self, "bound", "a finite number above 0")
        known = ("parameter", "layer", "filter")
        require(self.groups in known, self, "groups", " or ".join(known))
        if isinstance(self.weights, tuple):
            positive = len(self.weights) > 0 and all(0 < w < math.inf for w in self.weights)
            require(positive, self, "weights", "a finite number above 0 for each group")
        else:
            named = self.weights in ("equal", "dimension")
            require(named, self, "weights", "equal, dimension, or one number a group")

    def init(self, context: PhaseContext, reads: Reads) -> State:
        groups_D = context.space.groups(self.groups)
        sizes_G = torch.bincount(groups_D).to(torch.float64)
        if isinstance(self.weights, tuple):
            if len(self.weights) != len(sizes_G):
                raise GrammarError(
                    "there is not one weight for each group of coordinates",
                    where=f"{name_of(self)}.weights",
                    got=len(self.weights),
                    expected=f"{len(sizes_G)}, one a {self.groups}",
                )
            weights_G = torch.tensor(self.weights, dtype=torch.float64)
        else:
            weights_G = torch.ones_like(sizes_G) if self.weights == "equal" else sizes_G.sqrt()
        bounds_G = self.bound * weights_G / torch.linalg.vector_norm(weights_G)
        return {"bounds_G": bounds_G.to(context.weights_D.device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(self.bound, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (state["bounds_G"] / norms_G).clamp(max=1)
