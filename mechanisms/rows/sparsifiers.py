"""Row maps that keep part of a record's row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import (
    Clock,
    GrammarError,
    MaskScheduler,
    PhaseContext,
    Reads,
    Release,
    Space,
    State,
    register,
)
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.support import kept
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("row", "row-top-k")
@dataclass(frozen=True, kw_only=True)
class RowTopK:
    """Only the largest coordinates of each record's own row.

    z_j = g_j if |g_j| is among the k largest of this row, else 0; k = max(1, ⌊r·K⌋)

    Exactly k coordinates are kept, whatever ties there are; which of equal ones is left to
    torch.topk. K counts the live coordinates of the scheduler that it reads, or every coordinate
    if it reads none. Not affine, so it runs on the materialising engine.

    Args:
        ratio: r, the share of the row's coordinates that is kept, in (0, 1].
        reads: the scheduler whose support counts, by slot or by name; none counts all.

    State: `count`, k at the coming step, no dimensions, int64.

    Errors: `GrammarError` for a stage that is no scheduler, or whose support is another space's.

    Source: arXiv 2507.06525, section 4, "Pruning via top-k".
    Privacy: no bound of its own. Which coordinates a record keeps is private: noise is drawn
    on the whole support, whatever was kept (kernel). How many is public: it comes from the
    support; checked by tests/mechanisms/rows/test_row_maps.py.
    """

    ratio: float = 0.6
    reads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.ratio <= 1, self, "ratio", "a share in (0, 1]")
        require(len(self.reads) <= 1, self, "reads", "the name of one scheduler, or nothing")

    def output_space(self, space: Space) -> Space:
        return space

    def init(self, context: PhaseContext, reads: Reads) -> State:
        size = context.space.size
        live = self._live(reads, Clock(0, context.steps), size)
        return {"count": torch.tensor(kept(self.ratio, live), device=context.weights_D.device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        clock, size = release.clock, len(release.support_D)
        if not self.reads or clock.step + 1 == clock.steps:
            return state
        live = self._live(reads, Clock(clock.step + 1, clock.steps), size)
        return {"count": torch.full_like(state["count"], kept(self.ratio, live))}

    def row(self, state: State, g_D: Tensor) -> Tensor:
        top = g_D.abs().topk(int(state["count"]), sorted=False).indices
        return torch.zeros_like(g_D).scatter(-1, top, g_D.gather(-1, top))

    def _live(self, reads: Reads, clock: Clock, size: int) -> int:
        """How many coordinates are live at this step, out of so many."""
        if not self.reads:
            return size
        scheduler, state = reads[self.reads[0]]
        if not isinstance(scheduler, MaskScheduler):
            raise GrammarError(
                "this stage gives no support",
                where=f"{name_of(self)}.reads",
                got=name_of(scheduler),
                expected="a scheduler, such as linear-unfreeze",
            )
        support_D = scheduler.support(state, clock)
        if len(support_D) != size:
            raise GrammarError(
                "the support is of another space than the rows",
                where=f"{name_of(self)}.reads",
                got=f"rows of {size} coordinates",
                expected=f"{len(support_D)}, those of the parameters",
                remedy="Put it before row maps that change the space.",
            )
        return int(support_D.sum())
