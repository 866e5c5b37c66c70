"""What a microbatch leaves behind for one parameter: enough to form any record's row of it.

A statistic is made from a layer's input a and the gradient b of the layer's output, both as
rounded by forward and backward. `block(lo, hi)` forms the rows of records lo to hi, one a
record and from that record alone. A row as rounded there *is* the row: norm and sum both read
it, so its rounding enters neither the sensitivity nor the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

Layout = tuple[int, int, int]


class Statistic(Protocol):
    """The rows of one parameter of P coordinates, for the B records of a microbatch."""

    @property
    def records(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def layout(self) -> Layout | None:
        """(q, O, I) if `block` gives rows as (q, I, O) and the parameter is (q, O, I)."""
        ...

    def block(self, lo: int, hi: int) -> Tensor:
        """The rows of records lo to hi − 1, (hi − lo) × P, float32 or float64."""
        ...


def to_layout(v_P: Tensor, layout: Layout | None) -> Tensor:
    """A vector in the parameter's order (… × P), in the order of `block`."""
    if layout is None:
        return v_P
    q, o, i = layout
    return v_P.unflatten(-1, (q, o, i)).transpose(-1, -2).flatten(-3)


def from_layout(v_P: Tensor, layout: Layout | None) -> Tensor:
    """The inverse of `to_layout`."""
    if layout is None:
        return v_P
    q, o, i = layout
    return v_P.unflatten(-1, (q, i, o)).transpose(-1, -2).flatten(-3)


@dataclass(frozen=True)
class Formed:
    """Rows that stand in memory, in the parameter's order."""

    g_BP: Tensor
    layout: Layout | None = None

    @property
    def records(self) -> int:
        return len(self.g_BP)

    @property
    def size(self) -> int:
        return self.g_BP.shape[1]

    def block(self, lo: int, hi: int) -> Tensor:
        return self.g_BP[lo:hi]


@dataclass(frozen=True)
class Factors:
    """A matrix product of two factors: the weight of a linear layer or of a convolution.

    g_i = Σ_t b_it a_itᵀ in each of q groups of channels; T positions a record.
    """

    a_BqIT: Tensor
    b_BqOT: Tensor

    @property
    def records(self) -> int:
        return len(self.a_BqIT)

    @property
    def positions(self) -> int:
        return self.a_BqIT.shape[3]

    @cached_property
    def layout(self) -> Layout:
        return (self.a_BqIT.shape[1], self.b_BqOT.shape[2], self.a_BqIT.shape[2])

    @property
    def size(self) -> int:
        return math.prod(self.layout)

    def block(self, lo: int, hi: int) -> Tensor:
        return (self.a_BqIT[lo:hi] @ self.b_BqOT[lo:hi].transpose(2, 3)).flatten(1)


@dataclass(frozen=True)
class Sparse:
    """The table of an embedding: S slots a record, each with its table row and its gradient.

    No two slots of a record with a gradient have the same index.
    """

    index_BS: Tensor
    g_BSE: Tensor
    entries: int
    layout: Layout | None = None

    @classmethod
    def merging(
        cls, index_BT: Tensor, b_BTE: Tensor, entries: int, padding: int | None
    ) -> Sparse:
        """From one index and gradient a position: repeated indices of a record are summed."""
        if padding is not None:
            b_BTE = torch.where((index_BT == padding)[..., None], 0, b_BTE)
        index_BT, order_BT = index_BT.sort(dim=1, stable=True)
        b_BTE = b_BTE.gather(1, order_BT[..., None].expand_as(b_BTE))
        new_BT = torch.zeros_like(index_BT)
        new_BT[:, 1:] = index_BT[:, 1:] != index_BT[:, :-1]
        slot_BT = new_BT.cumsum(1)
        slots = torch.zeros_like(index_BT).scatter_(1, slot_BT, index_BT)
        merged = torch.zeros_like(b_BTE).scatter_add_(1, slot_BT[..., None].expand_as(b_BTE), b_BTE)
        return cls(slots, merged, entries)

    @property
    def records(self) -> int:
        return len(self.g_BSE)

    @property
    def size(self) -> int:
        return self.entries * self.g_BSE.shape[2]

    def block(self, lo: int, hi: int) -> Tensor:
        g_BSE, index_BS = self.g_BSE[lo:hi], self.index_BS[lo:hi]
        dense = g_BSE.new_zeros(hi - lo, self.entries, g_BSE.shape[2])
        dense.scatter_add_(1, index_BS[..., None].expand_as(g_BSE), g_BSE)
        return dense.flatten(1)


@dataclass(frozen=True)
class Summed:
    """A parameter used several times: the rows of its uses, added."""

    uses: Sequence[Statistic]
    layout: Layout | None = None

    @property
    def records(self) -> int:
        return self.uses[0].records

    @property
    def size(self) -> int:
        return self.uses[0].size

    def block(self, lo: int, hi: int) -> Tensor:
        rows = [from_layout(use.block(lo, hi), use.layout) for use in self.uses]
        return torch.stack(rows).sum(0)
