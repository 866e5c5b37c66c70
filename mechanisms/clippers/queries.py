"""Queries: further bounded statistics of one record, noised jointly with its row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from dpigu.dpcore import GrammarError, Reads, Release, State, register
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.validate import require
from torch import Tensor

REACH = 4.0
"""How far a histogram of norms reaches, in multiples of the clipper's bound."""


@register("query", "clipped-count")
@dataclass(frozen=True, kw_only=True)
class ClippedCount:
    """How many records the clipper leaves as they are: ½ for a row within its bound, else −½.

    q = ½ if ‖z‖₂ ≤ C else −½;  released: b̃ − ½, with b̃ the share of records within C

    Centring at ½ halves the sensitivity, and b̃ is unbiased under Poisson sampling with the
    public divisor B. Its noise has the standard deviation z·`noise_ratio`/(2B), with z the
    gradient's multiplier, and the gradient pays for it: the joint multiplier is
    z/√(1 + 1/noise_ratio²), at the default 0.12% less than z.

    Args:
        noise_ratio: its noise multiplier over the gradient's, above 0.

    Source: Andrew, Thakkar, McMahan and Ramaswamy 2021 (arXiv 1905.03871), section 3; they
    recommend σ_b = B/20 on the count, which is noise_ratio = B/(10·z); 20 is this project's.
    Privacy: bound ½; reads the record's own norm and the clipper's released bound; checked by
    tests/mechanisms/clippers/test_quantile.py.
    """

    noise_ratio: float = 20.0
    size: ClassVar[int] = 1
    bound: ClassVar[float] = 0.5
    reads: ClassVar[tuple[str, ...]] = ("clipper",)

    def __post_init__(self) -> None:
        require(0 < self.noise_ratio < math.inf, self, "noise_ratio", "a finite number above 0")

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        clipper, clipper_state = reads["clipper"]
        within = torch.linalg.vector_norm(norms_G) <= clipper.joint_bound(clipper_state)
        return torch.where(within, 0.5, -0.5)[None]


@register("query", "group-counts")
@dataclass(frozen=True, kw_only=True)
class GroupCounts:
    """For each group of `group-quantile`, how many records are within its quantile so far.

    ±½/√G, + if ‖z_G‖₂ ≤ q_G;  released: (b̃_G − ½)/√G, b̃_G the share of records within q_G

    All G answers together have norm ½, whatever G. The noise of b̃_G has the standard deviation
    √G·z·`noise_ratio`/(2B), with z the gradient's multiplier; the gradient pays for it as for
    `clipped-count`.

    Args:
        noise_ratio: its noise multiplier over the gradient's, above 0.

    Source: after He et al. 2023 (arXiv 2212.01539).
    Privacy: bound ½; reads the record's own norms and the clipper's released state; checked by
    tests/mechanisms/clippers/test_group_quantile.py.
    """

    noise_ratio: float = 20.0
    size: ClassVar[Literal["groups"]] = "groups"
    bound: ClassVar[float] = 0.5
    reads: ClassVar[tuple[str, ...]] = ("group-quantile",)

    def __post_init__(self) -> None:
        require(0 < self.noise_ratio < math.inf, self, "noise_ratio", "a finite number above 0")

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        within_G = norms_G <= reads["group-quantile"].state["quantiles_G"]
        return torch.where(within_G, 0.5, -0.5).to(norms_G.dtype) / math.sqrt(len(norms_G))


@register("query", "norm-histogram")
@dataclass(frozen=True, kw_only=True)
class NormHistogram:
    """In which bin a record's norm lies, from 0 to four times the clipper's bound.

    q_k = 1 for the bin of ‖z‖₂, else 0; the last takes all above;  released: h̃_k

    h̃_k is unbiased under Poisson sampling with the public divisor B; its noise has the standard
    deviation z·`noise_ratio`/B, with z the gradient's multiplier, and the gradient pays for it:
    the joint multiplier is z/√(1 + 1/noise_ratio²), at the default 2% less than z.

    Args:
        bins: how many, at least 2.
        noise_ratio: its noise multiplier over the gradient's, above 0.

    Source: Wei, Li, Gong and Chen 2025, DC-SGD (arXiv 2503.22988), whose bins have a width of
    their own, doubled or halved as the norms ask.
    Privacy: bound 1, since a record is in one bin; reads the record's own norm and the clipper's
    released bound; checked by tests/mechanisms/clippers/test_least_error.py.
    """

    bins: int = 20
    noise_ratio: float = 5.0
    bound: ClassVar[float] = 1.0
    reads: ClassVar[tuple[str, ...]] = ("clipper",)

    def __post_init__(self) -> None:
        require(self.bins >= 2, self, "bins", "at least 2")
        require(0 < self.noise_ratio < math.inf, self, "noise_ratio", "a finite number above 0")

    @property
    def size(self) -> int:
        return self.bins

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        clipper, clipper_state = reads["clipper"]
        width = REACH * clipper.joint_bound(clipper_state).to(norms_G.device) / self.bins
        at = (torch.linalg.vector_norm(norms_G) / width).clamp(max=self.bins - 1).floor()
        one_K: Tensor = torch.arange(self.bins, device=norms_G.device) == at
        return one_K.to(torch.float64)


def answer(release: Release, clipper: object, query: type) -> Tensor:
    """The released value of the query that a clipper asks for.

    Errors: `GrammarError` if the pipeline has none.
    """
    name = name_of(query())
    if name not in release.queries:
        raise GrammarError(
            "its query is not in the pipeline",
            where=name_of(clipper),
            got=list(release.queries),
            expected=name,
            remedy=f"Write queries=({query.__name__}(),) beside it.",
        )
    return release.queries[name].value
