"""Correct stages of the kinds that are rare among the built-in ones: every check passes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpcore import Clock, Context, Reads, Release, Released, Space, State
from dpcore.spaces import Grouping
from tests.mutants.table import twin


@twin("query", "twin/count")
@dataclass(frozen=True, kw_only=True)
class Count:
    """Whether a record's norm is within a bound, centred: ±½.

    Privacy: sensitivity ½; reads the record's own norm.
    """

    size: ClassVar[int] = 1
    bound: ClassVar[float] = 0.5
    noise_ratio: float = 10.0

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        return torch.where(norms_G.norm() <= 1, 0.5, -0.5)[None]


@twin("clipper", "twin/quantile")
@dataclass(frozen=True, kw_only=True)
class Quantile:
    """A bound that follows the released share of records within it; stands beside a query.

    Privacy: declares its released bound; learns from the noised count alone.
    """

    groups: ClassVar[Grouping] = "all"
    query: str = "twin/count"

    def init(self, context: Context, reads: Reads) -> State:
        return {"log_bound": torch.zeros((), dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        share = (release.queries[self.query].value[0] + 0.5).clamp(0, 1)
        return {"log_bound": state["log_bound"] - 0.2 * (share - 0.5)}

    def joint_bound(self, state: State) -> Tensor:
        return state["log_bound"].exp()

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (self.joint_bound(state) / norms_G).clamp(max=1)


@twin("clipper", "twin/per-layer")
@dataclass(frozen=True, kw_only=True)
class PerLayer:
    """Clips every layer to C_g = 1 and declares √G.

    Privacy: declares √G; reads the record's norm in each layer.
    """

    groups: ClassVar[Grouping] = "layer"

    def init(self, context: Context, reads: Reads) -> State:
        count = context.space.group_count(self.groups)
        return {"bound": torch.tensor(math.sqrt(count), dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def joint_bound(self, state: State) -> Tensor:
        return state["bound"]

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (1 / norms_G).clamp(max=1)


@twin("row", "twin/fold")
@dataclass(frozen=True, kw_only=True)
class Fold:
    """A projection to half of the coordinates: each is the mean of two, D → ⌈D/2⌉.

    Privacy: no bound of its own; reads the row alone.
    """

    def output_space(self, space: Space) -> Space:
        return Space.flat("fold", (space.size + 1) // 2)

    def row(self, state: State, g_D: Tensor) -> Tensor:
        if len(g_D) % 2:
            g_D = torch.cat([g_D, g_D.new_zeros(1)])
        return g_D.reshape(-1, 2).mean(1)


@twin("post", "twin/unfold")
@dataclass(frozen=True, kw_only=True)
class Unfold:
    """The way back from `twin/fold`: each value twice, in the space that it came from.

    Privacy: post-processing of the released vector.
    """

    reads: tuple[str, ...] = ("twin/fold",)

    def output_space(self, space: Space) -> Space:
        return Space.flat("unfold", 2 * space.size)

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        return released.derive(
            released.value.repeat_interleave(2), released.variance.repeat_interleave(2)
        )


@twin("post", "twin/soft-threshold")
@dataclass(frozen=True, kw_only=True)
class SoftThreshold:
    """Shrinks by one standard deviation of the noise; its variance is an upper bound.

    Privacy: post-processing of the released vector and of its public variance.
    """

    def output_space(self, space: Space) -> Space:
        return space

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        size_D = (released.value.abs() - released.variance.sqrt()).clamp(min=0)
        return released.derive(released.value.sign() * size_D, released.variance)


@twin("scheduler", "twin/re-ranked")
@dataclass(frozen=True, kw_only=True)
class ReRanked:
    """The better half of the coordinates by the scores of the moment.

    Privacy: reads released scores.
    """

    reads: tuple[str, ...] = ("scorer",)
    monotone: ClassVar[bool] = False
    live: ClassVar[bool] = True

    def init(self, context: Context, reads: Reads) -> State:
        return self.update({}, None, reads)

    def update(self, state: State, release: Release | None, reads: Reads) -> State:
        scorer, scores = reads[self.reads[0]]
        return {"score_D": scorer.score(scores).clone()}

    def support(self, state: State, clock: Clock) -> Tensor:
        return state["score_D"] >= state["score_D"].median()
