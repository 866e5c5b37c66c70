"""Private selection of coordinates: every record votes for its largest, and votes are counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import PhaseContext, Reads, Record, Release, Space, State, register
from dpigu.mechanisms.support.schedulers import kept
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("statistic", "top-votes")
@dataclass(frozen=True, kw_only=True)
class TopVotes:
    """A vote of every record for each of the k coordinates where its gradient is largest.

    z_j = 1/√k if |g_j| is among the k largest of this record, else 0; k = max(1, ⌊r·D⌋)

    Its norm is exactly 1, whatever the gradient, so flat(bound=1) clips nothing. Each step
    releases the noised mean of the votes and trains no weights. `vote-count` adds them up, and a
    scheduler of the next phase reads it.

    Args:
        ratio: r, the share of coordinates that each record votes for, in (0, 1].

    Source: this project. Liu, Cao, Yoshikawa and Chen 2020, FedSel (arXiv 2003.10637), select
    dimensions for each user by local randomisation: docs/without-a-preset.md.
    Privacy: norm 1; reads one record's own gradient; every step is charged as a release of its
    own; checked by tests/mechanisms/support/test_votes.py.
    """

    ratio: float = 0.1
    of_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(0 < self.ratio <= 1, self, "ratio", "a share in (0, 1]")

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        return parameters

    def row_of(self, state: State, record: Record) -> Tensor:
        g_D = record.gradient()
        count = kept(self.ratio, g_D.shape[-1])
        top = g_D.abs().topk(count, sorted=False).indices
        share = torch.full_like(top, count**-0.5, dtype=g_D.dtype)
        return torch.zeros_like(g_D).scatter(-1, top, share)

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {}

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        return {}


@register("scorer", "vote-count")
@dataclass(frozen=True, kw_only=True)
class VoteCount:
    """The votes for every coordinate, added up over the steps.

    s_j = Σ_t ĝ_{t,j}, with its sign: a count below 0 is noise, and no importance

    State: `total_D`, float64.

    Source: as `top-votes`.
    Privacy: no bound needed; reads released votes only (post-processing); checked by
    tests/mechanisms/support/test_votes.py.
    """

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"total_D": context.zeros()}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"total_D": state["total_D"] + release.gradient.value}

    def score(self, state: State) -> Tensor:
        return state["total_D"]
