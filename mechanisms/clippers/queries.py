"""Queries: further bounded statistics of one record, noised jointly with its row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import Reads, State, register
from dpigu.mechanisms.validate import require
from torch import Tensor


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
