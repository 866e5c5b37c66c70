"""Row maps that keep part of a record's row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import Space, State, register
from dpigu.mechanisms.support import kept
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("row", "row-top-k")
@dataclass(frozen=True, kw_only=True)
class RowTopK:
    """Only the largest coordinates of each record's own row.

    z_j = g_j if |g_j| is among the k largest of this row, else 0; k = max(1, ⌊r·K⌋)

    Exactly k coordinates are kept, whatever ties there are; which of equal ones is left to
    torch.topk. K counts every coordinate of the row, frozen ones (zeros) too. Not affine, so it
    runs on the materialising engine.

    Args:
        ratio: r, the share of the row's coordinates that is kept, in (0, 1].

    Source: arXiv 2507.06525, section 4, "Pruning via top-k".
    Privacy: no bound of its own. Which coordinates a record keeps is private: noise is drawn
    on the whole support, whatever was kept (kernel); checked by
    tests/mechanisms/rows/test_row_maps.py.
    """

    ratio: float = 0.6

    def __post_init__(self) -> None:
        require(0 < self.ratio <= 1, self, "ratio", "a share in (0, 1]")

    def output_space(self, space: Space) -> Space:
        return space

    def row(self, state: State, g_D: Tensor) -> Tensor:
        top = g_D.abs().topk(kept(self.ratio, g_D.shape[-1]), sorted=False).indices
        return torch.zeros_like(g_D).scatter(-1, top, g_D.gather(-1, top))
