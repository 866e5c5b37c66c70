"""The exact ways from one parameter's rows to squared norms and clipped sums.

With z = w ⊙ g − s, every way has `squares_BG`, bounds in float64 that are never below the true
Σ_j z_j² of each group (but for the last few roundings, for which the engine adds its final
factor), made at once, and `sum(c_BG) -> Σ_i c_i z_i` in float64.

| way | when | norm | its error |
|---|---|---|---|
| form | always possible | forms z in float64, block by block | float64 rounding |
| ghost | one position, s = 0 | (b²)ᵀW²(a²), non-negative terms | γ of the type, added |
| gram | w constant, s = 0 | Σ_tt′ (a_t·a_t′)(b_t·b_t′) in float64 | certified, added |
| sparse | an embedding, s = 0 | the touched rows of the table | float64 rounding |

Sums over records are taken in float64: the error of a sum over m terms is at most γ_m times
the sum of the terms' norms, γ_m = m·2⁻⁵³/(1 − m·2⁻⁵³) (Higham 2002, section 3.1). For form,
sparse and ghost the terms are the rows themselves. For gram they are Σ_t ‖b_t‖‖a_t‖, which may
exceed the row's norm; a multiple of it is added to the norm, so that the sum is within
GRAM_ERROR of Σ (bound on the clipped norm).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from dpigu.dpcore.precision import full_precision
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.trainers.engines.layers.affine_slice import AffineSlice, kept
from dpigu.trainers.engines.layers.costs import costs_of
from dpigu.trainers.engines.layers.outer_product import Ghost
from dpigu.trainers.engines.layers.parameter_rows import (
    Factors,
    Formed,
    Layout,
    ParameterRows,
    Sparse,
    from_layout,
)
from dpigu.trainers.engines.layers.workspace import Workspace, blocks, wide
from torch import Tensor

GRAM_ERROR = 2.0**-24


class NormMethod(Protocol):
    """One parameter of one microbatch, ready to answer."""

    @property
    def squares_BG(self) -> Tensor:
        """Upper bounds on Σ z² of each record in each group, float64."""
        ...

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        """Write Σ_i c_i z_i in the parameter's order, float64; records not live are left out.

        `live_B` is None where all are live.
        """
        ...


@dataclass(frozen=True)
class Form:
    """Rows formed and reduced at once, in float64; without a shift the sum is w ⊙ Σ c g."""

    rows: ParameterRows
    diagonal: AffineSlice
    workspace: Workspace
    squares_BG: Tensor

    @classmethod
    def of(cls, rows: ParameterRows, diagonal: AffineSlice, workspace: Workspace) -> Form:
        _, _, groups = diagonal.ordered(rows.layout)
        shape = (rows.records, rows.size)
        stored = None
        if shape[0] * shape[1] <= costs_of(rows.device).store:
            stored = torch.empty(shape, dtype=rows.dtype, device=rows.device)
        pieces = []
        for lo, hi in _streamed(rows):
            out = None if stored is None else stored[lo:hi]
            z = _z(rows.block(lo, hi, out), diagonal, rows.layout, workspace)
            if groups is None:
                pieces.append(torch.linalg.vector_norm(z, dim=1).square_())
            else:
                grouped = z.new_zeros(hi - lo, diagonal.group_count)
                pieces.append(grouped.index_add_(1, groups, z.square_()))
        squares = torch.cat(pieces)
        if groups is None:
            squares = diagonal.place(squares)
        keep = rows if stored is None else Formed(stored, rows.layout)
        return cls(keep, diagonal, workspace, squares)

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        rows, diagonal = self.rows, self.diagonal
        _, _, groups = diagonal.ordered(rows.layout)
        total = torch.zeros(rows.size, dtype=torch.float64, device=c_BG.device)
        for lo, hi in _streamed(rows):
            block = kept(rows.block(lo, hi), None if live_B is None else live_B[lo:hi])
            if diagonal.shift_P is None:
                z, c_nG = wide("rows", block, self.workspace), diagonal.scaled(c_BG[lo:hi])
            else:
                z, c_nG = _z(block, diagonal, rows.layout, self.workspace), c_BG[lo:hi]
            if groups is None:
                total += c_nG[:, diagonal.group] @ z
            else:
                total += (c_nG[:, groups] * z).sum(0)
        out_P.copy_(from_layout(total, rows.layout))
        if diagonal.shift_P is None:
            diagonal.weigh(out_P)


def _streamed(rows: ParameterRows) -> Iterator[tuple[int, int]]:
    return blocks(rows.records, max(1, costs_of(rows.device).stream // rows.width))


def _z(block: Tensor, diagonal: AffineSlice, layout: Layout | None, workspace: Workspace) -> Tensor:
    """z = w ⊙ g − s in float64, in working memory."""
    w, s, _ = diagonal.ordered(layout)
    z = wide("rows", block, workspace)
    if w is not None:
        z *= w
    elif diagonal.scale is not None:
        z *= diagonal.scale
    if s is not None:
        z -= s
    return z


@dataclass(frozen=True)
class Gram:
    """Several positions, w constant: ‖Σ_t b_t a_tᵀ‖² = Σ_tt′ (a_t·a_t′)(b_t·b_t′) in float64.

    Its terms cancel, so γ·S² is added, S = Σ_t ‖a_t‖‖b_t‖, and then η·S to the norm, with
    η = γ_m / GRAM_ERROR and m the terms of the clipped sum.
    """

    rows: Factors
    diagonal: AffineSlice
    squares_BG: Tensor

    @classmethod
    def of(cls, rows: Factors, diagonal: AffineSlice) -> Gram:
        a = rows.left(0, rows.records).to(torch.float64)
        b = rows.b_BqOT.to(torch.float64)
        gram_a, gram_b = a.transpose(2, 3) @ a, b.transpose(2, 3) @ b
        squares = (gram_a * gram_b).sum((1, 2, 3)).clamp_min_(0)
        diagonals = gram_a.diagonal(dim1=2, dim2=3) * gram_b.diagonal(dim1=2, dim2=3)
        size = diagonals.sqrt().sum((1, 2))
        q, o, i = rows.layout.sizes
        t = rows.positions
        squares += 2 * (i + o + q * t * t + 8) * UNIT_ROUNDOFF * size.square()
        terms = 2 * (rows.records * t + 8) * UNIT_ROUNDOFF
        norm = squares.sqrt_() + (terms / GRAM_ERROR) * size
        if diagonal.scale is not None:
            norm = norm * diagonal.scale.abs()
        return cls(rows, diagonal, diagonal.place(norm.square_()))

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        a = kept(self.rows.left(0, self.rows.records), live_B).to(torch.float64)
        b = kept(self.rows.b_BqOT, live_B).to(torch.float64)
        b = b * self.diagonal.scaled(c_BG[:, self.diagonal.group, None, None, None])
        b_qOn, a_qIn = b.permute(1, 2, 0, 3).flatten(2), a.permute(1, 2, 0, 3).flatten(2)
        total = (a_qIn @ b_qOn.transpose(1, 2)).flatten()
        out_P.copy_(from_layout(total, self.rows.layout))
        self.diagonal.weigh(out_P)


@dataclass(frozen=True)
class Touched:
    """An embedding without a shift: only the rows of the table that a record reads."""

    rows: Sparse
    diagonal: AffineSlice
    z_BSE: Tensor
    squares_BG: Tensor

    @classmethod
    def of(cls, rows: Sparse, diagonal: AffineSlice) -> Touched:
        z_BSE = rows.g_BSE.to(torch.float64)
        if diagonal.full_P is not None:
            z_BSE = z_BSE * diagonal.full_P.view(rows.entries, -1)[rows.index_BS]
        elif diagonal.scale is not None:
            z_BSE = z_BSE * diagonal.scale
        return cls(rows, diagonal, z_BSE, diagonal.place(z_BSE.square().sum((1, 2))))

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        z_BSE = kept(self.z_BSE, live_B) * c_BG[:, self.diagonal.group, None, None]
        total = out_P.zero_().view(self.rows.entries, -1)
        total.index_add_(0, self.rows.index_BS.flatten(), z_BSE.flatten(0, 1))


@full_precision()
def choose(
    rows: ParameterRows, diagonal: AffineSlice, workspace: Workspace
) -> tuple[NormMethod, str]:
    """The cheapest exact way for these rows, from their shapes and the device's costs, and why."""
    if diagonal.shift_P is not None:
        return Form.of(rows, diagonal, workspace), "form: rows are centred"
    if isinstance(rows, Sparse):
        if diagonal.groups_P is None:
            return Touched.of(rows, diagonal), f"sparse: {rows.g_BSE.shape[1]} table rows"
        return Form.of(rows, diagonal, workspace), "form: clipping groups split the table"
    if not isinstance(rows, Factors):
        return Form.of(rows, diagonal, workspace), f"form: rows of {rows.size}"
    q, o, i = rows.layout.sizes
    t = rows.positions
    if t == 1 and diagonal.by_output:
        return Ghost.of(rows, diagonal, workspace), f"ghost: one position, {q}×{o}×{i} never formed"
    costs = costs_of(rows.device)
    form = q * o * i * (t + costs.form)
    gram = costs.double * q * t * (t * (i + o) + o * i)
    if diagonal.uniform and diagonal.groups_P is None and gram < form:
        return Gram.of(rows, diagonal), f"gram: {t} positions, {q}×{o}×{i} never formed"
    return Form.of(rows, diagonal, workspace), f"form: {t} positions, rows of {rows.size}"
