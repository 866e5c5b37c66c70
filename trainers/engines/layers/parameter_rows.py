"""What a microbatch leaves behind for one parameter: enough to form any record's row of it.

They are made from a layer's input a and the gradient b of the layer's output, both as
rounded by forward and backward. `block(lo, hi)` forms the rows of records lo to hi, one a
record and from that record alone. A row as rounded there *is* the row: norm and sum both read
it, so its rounding enters neither the sensitivity nor the margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Layout(NamedTuple):
    """A weight of shape q × O × C × K whose rows are formed with the outputs O last.

    Args:
        shape: q groups of O output and C input channels, and K taps of the kernel.
        taps_first: whether rows are q × K × C × O; otherwise q × C × K × O.
    """

    shape: tuple[int, int, int, int]
    taps_first: bool

    @property
    def sizes(self) -> tuple[int, int, int]:
        """q, O and the I = C·K inputs of an output."""
        q, o, c, k = self.shape
        return q, o, c * k


class ParameterRows(Protocol):
    """The rows of one parameter of P coordinates, for the B records of a microbatch.

    `layout` is the order of `block`, or None for the parameter's own.
    `width` is how many numbers a record takes while its row is formed.
    """

    @property
    def records(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def layout(self) -> Layout | None: ...
    def block(self, lo: int, hi: int, out: Tensor | None = None) -> Tensor:
        """The rows of records lo to hi − 1, (hi − lo) × P, float32 or float64; in `out` if
        that is given."""
        ...


def to_layout(v_P: Tensor, layout: Layout | None) -> Tensor:
    """A vector in the parameter's order (… × P), in the order of `block`."""
    if layout is None:
        return v_P
    q, o, c, k = layout.shape
    order = (0, 3, 2, 1) if layout.taps_first else (0, 2, 3, 1)
    lead = v_P.dim() - 1
    split = v_P.reshape(*v_P.shape[:-1], q, o, c, k)
    return split.permute(*range(lead), *(lead + d for d in order)).flatten(lead)


def from_layout(v_P: Tensor, layout: Layout | None) -> Tensor:
    """The inverse of `to_layout`."""
    if layout is None:
        return v_P
    q, o, c, k = layout.shape
    lead = v_P.dim() - 1
    if layout.taps_first:
        split, order = v_P.reshape(*v_P.shape[:-1], q, k, c, o), (0, 3, 2, 1)
    else:
        split, order = v_P.reshape(*v_P.shape[:-1], q, c, k, o), (0, 3, 1, 2)
    return split.permute(*range(lead), *(lead + d for d in order)).flatten(lead)


def _given(rows: Tensor, out: Tensor | None) -> Tensor:
    return rows if out is None else out.copy_(rows)


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

    @property
    def width(self) -> int:
        return self.size

    @property
    def dtype(self) -> torch.dtype:
        return self.g_BP.dtype

    @property
    def device(self) -> torch.device:
        return self.g_BP.device

    def block(self, lo: int, hi: int, out: Tensor | None = None) -> Tensor:
        return _given(self.g_BP[lo:hi], out)


@dataclass(frozen=True)
class Factors:
    """A matrix product of two factors: the weight of a linear layer or of a convolution.

    g_i = Σ_t b_it a_itᵀ in each of q groups of channels; T positions a record.

    Args:
        layout: the weight's layout.
        left: a of records lo to hi − 1, n × q × I × T; valid until it is called again.
        b_BqOT: the gradients of the output.
    """

    layout: Layout
    left: Callable[[int, int], Tensor]
    b_BqOT: Tensor

    @property
    def records(self) -> int:
        return len(self.b_BqOT)

    @property
    def positions(self) -> int:
        return self.b_BqOT.shape[3]

    @property
    def dtype(self) -> torch.dtype:
        return self.b_BqOT.dtype

    @property
    def device(self) -> torch.device:
        return self.b_BqOT.device

    @property
    def size(self) -> int:
        return math.prod(self.layout.shape)

    @property
    def width(self) -> int:
        q, _, i = self.layout.sizes
        return max(self.size, q * i * self.positions)

    def block(self, lo: int, hi: int, out: Tensor | None = None) -> Tensor:
        _, o, i = self.layout.sizes
        a_nIT = self.left(lo, hi).reshape(-1, i, self.positions)
        b_nTO = self.b_BqOT[lo:hi].reshape(-1, o, self.positions).transpose(1, 2)
        if out is None:
            return torch.bmm(a_nIT, b_nTO).view(hi - lo, -1)
        torch.bmm(a_nIT, b_nTO, out=out.view(-1, i, o))
        return out


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
    def merging(cls, index_BT: Tensor, b_BTE: Tensor, entries: int, padding: int | None) -> Sparse:
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

    @property
    def width(self) -> int:
        return self.size

    @property
    def dtype(self) -> torch.dtype:
        return self.g_BSE.dtype

    @property
    def device(self) -> torch.device:
        return self.g_BSE.device

    def block(self, lo: int, hi: int, out: Tensor | None = None) -> Tensor:
        g_BSE, index_BS = self.g_BSE[lo:hi], self.index_BS[lo:hi]
        dense = g_BSE.new_zeros(hi - lo, self.entries, g_BSE.shape[2])
        dense.scatter_add_(1, index_BS[..., None].expand_as(g_BSE), g_BSE)
        return _given(dense.flatten(1), out)


@dataclass(frozen=True)
class Summed:
    """A parameter used several times: the rows of its uses, added."""

    uses: Sequence[ParameterRows]
    layout: Layout | None = None

    @property
    def records(self) -> int:
        return self.uses[0].records

    @property
    def size(self) -> int:
        return self.uses[0].size

    @property
    def width(self) -> int:
        return max(use.width for use in self.uses)

    @property
    def dtype(self) -> torch.dtype:
        return self.uses[0].dtype

    @property
    def device(self) -> torch.device:
        return self.uses[0].device

    def block(self, lo: int, hi: int, out: Tensor | None = None) -> Tensor:
        total = torch.zeros((hi - lo, self.size), dtype=self.dtype, device=self.device)
        for use in self.uses:
            total += from_layout(use.block(lo, hi), use.layout)
        return _given(total, out)


def viewed(rows: ParameterRows, views: int) -> ParameterRows:
    """The rows of records that are several views each: those of the views, added.

    A factor's views become positions of one longer sequence.

    Args:
        rows: of B · views records, a record's views one after the other.
        views: how many.
    """
    match rows:
        case Factors(layout, left, b_VqOT):
            return Factors(
                layout,
                lambda lo, hi: _joined(left(lo * views, hi * views), views),
                _joined(b_VqOT, views),
            )
        case Sparse(index_VS, g_VSE, entries):
            records = len(g_VSE) // views
            index_BS = index_VS.reshape(records, -1)
            g_BSE = g_VSE.reshape(records, -1, g_VSE.shape[2])
            return Sparse.merging(index_BS, g_BSE, entries, None)
        case Summed(uses):
            return Summed([viewed(use, views) for use in uses])
        case _:
            rows_VP = from_layout(rows.block(0, rows.records), rows.layout)
            return Formed(rows_VP.reshape(-1, views, rows_VP.shape[1]).sum(1))


def _joined(x_VqCT: Tensor, views: int) -> Tensor:
    """B·V × q × C × T to B × q × C × V·T."""
    if views == 1:
        return x_VqCT
    by_record: Tensor = torch.unflatten(x_VqCT, 0, (-1, views))
    return by_record.movedim(1, 3).flatten(3)
