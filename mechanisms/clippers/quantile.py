"""A clipper whose bound follows a quantile of the rows' norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, State, register
from dpigu.dpcore.grammar.pipeline import RANGE, in_range
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.mechanisms.clippers.queries import ClippedCount, answer
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("clipper", "quantile")
@dataclass(frozen=True, kw_only=True)
class Quantile:
    """A bound that a given share of the records is within.

    factor = min(1, C/‖z‖₂),  C ← C · exp(−η·(b̃ − γ)),  kept within [C₀/limit, C₀·limit]

    b̃ is the released share of records within C, cut to [0, 1], from the query `clipped-count`
    beside it, which is noised jointly with the gradient. C moves by a factor of at most
    exp(η·max(γ, 1 − γ)) a step, and settles at the quantile, where log C keeps a standard
    deviation of about √(η/(2p)) · (that of b̃), with p the density of log‖z‖ there.

    C follows the rows, so the gradient shrinks or grows with them: the learning rate counts in
    multiples of it.

    Args:
        bound: C₀, where C starts: finite and above 0.
        quantile: γ, the share of records to leave unclipped, in (0, 1).
        rate: η, above 0.
        limit: C stays within [C₀/limit, C₀·limit], at least 1; public, so that noise can never
            send C out of the range in which noise can be calibrated.

    State: `bound`, C, no dimensions, float64.

    Errors: `GrammarError` if the query is not in the pipeline.

    Source: Andrew, Thakkar, McMahan and Ramaswamy 2021 (arXiv 1905.03871), Algorithm 1, with its
    γ = 0.5, η = 0.2, and the cut of b̃ in their library; they start at C₀ = 0.1, and have no limit.
    Privacy: declares the released C; reads the record's own norm, and learns from the noised
    count alone; the kernel caps the factor; checked by tests/mechanisms/clippers/test_quantile.py.
    """

    bound: float = 1.0
    quantile: float = 0.5
    rate: float = 0.2
    limit: float = 1000.0
    groups: ClassVar[Grouping] = "all"
    asks: ClassVar[tuple[str, ...]] = ("clipped-count",)

    def __post_init__(self) -> None:
        require(0 < self.bound < math.inf, self, "bound", "a finite number above 0")
        require(0 < self.quantile < 1, self, "quantile", "a share in (0, 1)")
        require(0 < self.rate < math.inf, self, "rate", "a finite number above 0")
        within = in_range(self.bound / self.limit) and in_range(self.bound * self.limit)
        require(self.limit >= 1 and within, self, "limit", f"at least 1, and C in range: {RANGE}")

    def init(self, context: PhaseContext, reads: Reads) -> State:
        device = context.weights_D.device
        return {"bound": torch.tensor(self.bound, dtype=torch.float64, device=device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        (within,) = answer(release, self, ClippedCount)
        share = (within + 0.5).clamp(0, 1)
        bound = state["bound"] * torch.exp(-self.rate * (share - self.quantile))
        return {"bound": bound.clamp(self.bound / self.limit, self.bound * self.limit)}

    def joint_bound(self, state: State) -> Tensor:
        return state["bound"]

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (state["bound"] / norms_G).clamp(max=1)
