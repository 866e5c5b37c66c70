"""The row's affine map and the clipper's groups on one parameter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainers.layers.statistics import Layout, to_layout


def kept(v: Tensor, live_B: Tensor | None) -> Tensor:
    """The values with those of records that are not live set to 0, whatever they were."""
    if live_B is None:
        return v
    return torch.where(live_B.view(-1, *(1,) * (v.dim() - 1)), v, 0)


@dataclass(frozen=True)
class Diagonal:
    """The transform and the clipper's groups on one parameter, prepared once a step.

    Args:
        weight_P: w, float64, or None where it is the scalar `scale` everywhere.
        scale: w where it is constant; a tensor of no dimensions.
        shift_P: s, float64, or None where it is zero.
        groups_P: the group of each coordinate, or None where all are in `group`.
        by_output: whether every group is a union of entries along the first dimension.
    """

    weight_P: Tensor | None
    scale: Tensor | None
    shift_P: Tensor | None
    groups_P: Tensor | None
    group: int
    group_count: int
    by_output: bool

    @cached_property
    def _ordered(self) -> dict[object, tuple[Tensor | None, Tensor | None, Tensor | None]]:
        return {}

    def ordered(self, layout: Layout | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Weight, shift and groups in the order of a statistic's blocks."""
        if layout not in self._ordered:
            w, s, k = (
                None if v is None else to_layout(v, layout).contiguous()
                for v in (self.weight_P, self.shift_P, self.groups_P)
            )
            self._ordered[layout] = (w, s, k)
        return self._ordered[layout]

    @cached_property
    def _squared(self) -> dict[object, tuple[Tensor, Tensor]]:
        return {}

    def squared(self, layout: Layout, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """W² / max W² as q × I × O in a dtype, and max W² in float64."""
        key = (layout, dtype)
        if key not in self._squared:
            w, _, _ = self.ordered(layout)
            assert w is not None
            q, o, i = layout.sizes
            square = w.square()
            largest = square.amax().clamp_min(torch.finfo(torch.float64).tiny)
            self._squared[key] = ((square / largest).view(q, i, o).to(dtype), largest)
        return self._squared[key]

    def place(self, squares_B: Tensor) -> Tensor:
        """Squares of all coordinates, in the column of their group."""
        if self.group_count == 1:
            return squares_B[:, None]
        out = squares_B.new_zeros(len(squares_B), self.group_count)
        out[:, self.group] = squares_B
        return out

    def weighted(self, total_P: Tensor) -> Tensor:
        """w ⊙ Σ c g, where there is no shift."""
        if self.weight_P is not None:
            return total_P * self.weight_P
        return total_P if self.scale is None else total_P * self.scale
