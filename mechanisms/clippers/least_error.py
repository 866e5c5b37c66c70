"""A clipper whose bound weighs noise against what clipping cuts off, by a noised histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, State, register
from dpigu.dpcore.grammar.pipeline import RANGE, in_range
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.mechanisms.clippers.queries import REACH, NormHistogram, answer
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("clipper", "least-error")
@dataclass(frozen=True, kw_only=True)
class LeastError:
    """The bound with the least expected squared error of the mean gradient.

    factor = min(1, C/‖z‖₂);  C* = argmin_c (c/C)²·Σ_j v_j + Σ_k h̃_k·max(n_k − c, 0)²

    C ← C·(C*/C)^η,  kept within [C₀/limit, C₀·limit]

    h̃_k is the released share of records whose norm is in bin k of the query `norm-histogram`
    beside it, n_k the middle of that bin, c the bins' upper edges, v_j the known variance of the
    release. The first term is the noise at c, the second an upper bound on the square of what is
    cut off from the mean (Jensen). No c is tried beyond four times C, and none below its first
    bin, so a step moves C by a bounded factor. h̃ may be negative: it is unbiased so.

    Args:
        bound: C₀, where C starts: finite and above 0.
        rate: η, in (0, 1]; 1 takes C* at once.
        limit: C stays within [C₀/limit, C₀·limit], at least 1.

    State: `bound`, C, no dimensions, float64.

    Errors: `GrammarError` if the query is not in the pipeline.

    Source: after Wei, Li, Gong and Chen 2025, DC-SGD (arXiv 2503.22988), its rule E and the
    authors' code; η, limit and a grid in multiples of C are this project's.
    Privacy: declares the released C; reads the record's own norm, and learns from the noised
    histogram alone; the kernel caps the factor; checked by
    tests/mechanisms/clippers/test_least_error.py.
    """

    bound: float = 1.0
    rate: float = 0.2
    limit: float = 1000.0
    groups: ClassVar[Grouping] = "all"
    asks: ClassVar[tuple[str, ...]] = ("norm-histogram",)

    def __post_init__(self) -> None:
        require(0 < self.bound < math.inf, self, "bound", "a finite number above 0")
        require(0 < self.rate <= 1, self, "rate", "a share in (0, 1]")
        ends = (self.bound / max(self.limit, 1), self.bound * self.limit)
        within = self.limit >= 1 and all(map(in_range, ends))
        require(within, self, "limit", f"at least 1, and C in range: {RANGE}")

    def init(self, context: PhaseContext, reads: Reads) -> State:
        device = context.weights_D.device
        return {"bound": torch.tensor(self.bound, dtype=torch.float64, device=device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        share_K = answer(release, self, NormHistogram)
        noise = release.noised.variance.sum() / state["bound"] ** 2
        best = least_error(share_K, noise)
        bound = state["bound"] * best**self.rate
        return {"bound": bound.clamp(self.bound / self.limit, self.bound * self.limit)}

    def joint_bound(self, state: State) -> Tensor:
        return state["bound"]

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (state["bound"] / norms_G).clamp(max=1)


def least_error(share_K: Tensor, noise: Tensor) -> Tensor:
    """C*/C: the upper edge c of a bin with the least c²·noise + Σ_k h_k (n_k − c)₊², all over C.

    Args:
        share_K: h, the share of records in each bin. noise: Σ_j v_j/C².
    """
    edges_K = torch.arange(1, len(share_K) + 1, dtype=torch.float64, device=share_K.device)
    edges_K = REACH * edges_K / len(share_K)
    middle_K = edges_K - REACH / (2 * len(share_K))
    cut_KK = (middle_K[None, :] - edges_K[:, None]).clamp(min=0) ** 2
    best = (edges_K**2 * noise + cut_KK @ share_K).argmin()
    return edges_K.index_select(0, best.reshape(1))[0]
