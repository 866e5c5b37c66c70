"""The row's affine map and the clipper's groups on one parameter."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from dpigu.dpcore.devices import pieces
from dpigu.trainers.engines.layers.parameter_rows import Layout, to_layout
from torch import Tensor


def kept(v: Tensor, live_B: Tensor | None) -> Tensor:
    """The values with those of records that are not live set to 0, whatever they were."""
    if live_B is None:
        return v
    return torch.where(live_B.view(-1, *(1,) * (v.dim() - 1)), v, 0)


Ordered = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class AffineSlice:
    """The transform and the clipper's groups on one parameter, prepared once a step.

    w = (weight or scale or 1) ⊙ support

    Args:
        weight_P: float64, or None where it is the scalar `scale` everywhere.
        scale: a tensor of no dimensions, or None for 1.
        support_P: the live coordinates, or None for all.
        shift_P: s, float64, or None where it is zero.
        groups_P: the group of each coordinate, or None where all are in `group`.
        by_output: whether every group is a union of entries along the first dimension.
    """

    weight_P: Tensor | None = None
    scale: Tensor | None = None
    support_P: Tensor | None = None
    shift_P: Tensor | None = None
    groups_P: Tensor | None = None
    group: int = 0
    group_count: int = 1
    by_output: bool = True
    _orders: dict[Layout | None, Ordered] = field(default_factory=dict)
    _squares: dict[tuple[Layout, torch.dtype], Tensor] = field(default_factory=dict)

    @property
    def uniform(self) -> bool:
        """Whether w is one number."""
        return self.weight_P is None and self.support_P is None

    @cached_property
    def full_P(self) -> Tensor | None:
        """w, float64, or None where it is one number."""
        if self.support_P is None:
            return self.weight_P
        live_P = self.support_P.to(torch.float64)
        by = self.scale if self.weight_P is None else self.weight_P
        return live_P if by is None else live_P * by

    def ordered(self, layout: Layout | None) -> Ordered:
        """w (None where it is one number), s and the groups in the order of `block`."""
        if layout not in self._orders:
            w, s, k = (
                None if v is None else to_layout(v, layout).contiguous()
                for v in (self.full_P, self.shift_P, self.groups_P)
            )
            self._orders[layout] = (w, s, k)
        return self._orders[layout]

    @cached_property
    def largest(self) -> Tensor:
        """A float64 bound on |w|, above zero."""
        by = self.scale if self.weight_P is None else self.weight_P
        if by is None:
            assert self.support_P is not None
            return torch.ones((), dtype=torch.float64, device=self.support_P.device)
        return by.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)

    def squared(self, layout: Layout, dtype: torch.dtype) -> Tensor:
        """(w / largest)² as q × I × O in a dtype, relatively within 4 of its roundoffs."""
        key = (layout, dtype)
        if key not in self._squares:
            by = self.support_P
            if self.weight_P is None:
                assert by is not None
                ratio_P = by.to(dtype)
            else:
                ratio_P = torch.empty_like(self.weight_P, dtype=dtype)
                torch.div(self.weight_P, self.largest, out=ratio_P).square_()
                if by is not None:
                    ratio_P *= by
            q, o, i = layout.sizes
            if layout.taps_first:
                self._squares[key] = to_layout(ratio_P, layout).view(q, i, o)
            else:
                self._squares[key] = ratio_P.view(q, o, i).transpose(1, 2)
        return self._squares[key]

    def place(self, squares_B: Tensor) -> Tensor:
        """Squares of all coordinates, in the column of their group."""
        if self.group_count == 1:
            return squares_B[:, None]
        out = squares_B.new_zeros(len(squares_B), self.group_count)
        out[:, self.group] = squares_B
        return out

    def scaled(self, c: Tensor) -> Tensor:
        """Factors times w, where w is one number but for the support."""
        return c if self.scale is None else c * self.scale

    def weigh(self, total_P: Tensor) -> None:
        """w ⊙ Σ c g in place, of `scaled` factors and where there is no shift."""
        if self.weight_P is not None:
            total_P *= self.weight_P
        if self.support_P is not None:
            for here in pieces(len(total_P), total_P.device):
                total_P[here].masked_fill_(~self.support_P[here], 0.0)
