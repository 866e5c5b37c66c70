"""Correct stages of the kinds that are rare among the built-in ones: every check passes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import Clock, PhaseContext, Reads, Release, Released, Space, State
from torch import Tensor

from tests.mutants.table import twin


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


@twin("scheduler", "twin/re-ranked")
@dataclass(frozen=True, kw_only=True)
class ReRanked:
    """The better half of the coordinates by the scores of the moment.

    Privacy: reads released scores.
    """

    reads: tuple[str, ...] = ("scorer",)
    monotone: ClassVar[bool] = False
    live: ClassVar[bool] = True

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return self.update({}, None, reads)

    def update(self, state: State, release: Release | None, reads: Reads) -> State:
        scorer, scores = reads[self.reads[0]]
        return {"score_D": scorer.score(scores).clone()}

    def support(self, state: State, clock: Clock) -> Tensor:
        return state["score_D"] >= state["score_D"].median()
