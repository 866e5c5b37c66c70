"""The exact ways from one parameter's statistic to squared norms and clipped sums.

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
from torch import Tensor

from dpcore.rows import UNIT_ROUNDOFF
from trainers.layers.diagonal import Diagonal, kept
from trainers.layers.statistics import Factors, Formed, Layout, Sparse, Statistic, from_layout
from trainers.layers.workspace import Workspace

GRAM_ERROR = 2.0**-24
STREAM = 2**18
"""Numbers that `form` works on at a time: few enough to stay in cache."""
STORE = 2**24
"""Numbers of one parameter's rows that are kept between norm and sum; more are formed twice."""
WIDE = 2**17
"""Coordinates up to which a ghost norm is taken in float64; above, in the inputs' type."""
TERMS = 128
"""Terms that a ghost norm then sums at a time: float32 stays within 1e-5 for 4000 inputs."""
FORM = 60
"""What it costs to make, weigh and reduce one coordinate of one row, in float32 products."""


class Way(Protocol):
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
    """Rows formed and reduced at once. A row is z as computed here in float64."""

    statistic: Statistic
    diagonal: Diagonal
    workspace: Workspace
    squares_BG: Tensor

    @classmethod
    def of(cls, statistic: Statistic, diagonal: Diagonal, workspace: Workspace) -> Form:
        _, _, groups = diagonal.ordered(statistic.layout)
        shape = (statistic.records, statistic.size)
        stored = None
        if shape[0] * shape[1] <= STORE:
            stored = torch.empty(shape, dtype=statistic.dtype, device=statistic.device)
        pieces = []
        for lo, hi in _blocks(statistic):
            out = None if stored is None else stored[lo:hi]
            z = _z(statistic.block(lo, hi, out), diagonal, statistic.layout, workspace)
            if groups is None:
                pieces.append(torch.linalg.vector_norm(z, dim=1).square_())
            else:
                grouped = z.new_zeros(hi - lo, diagonal.group_count)
                pieces.append(grouped.index_add_(1, groups, z.square_()))
        squares = torch.cat(pieces)
        if groups is None:
            squares = diagonal.place(squares)
        keep = statistic if stored is None else Formed(stored, statistic.layout)
        return cls(keep, diagonal, workspace, squares)

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        statistic, diagonal = self.statistic, self.diagonal
        _, _, groups = diagonal.ordered(statistic.layout)
        total = torch.zeros(statistic.size, dtype=torch.float64, device=c_BG.device)
        for lo, hi in _blocks(statistic):
            block = kept(statistic.block(lo, hi), None if live_B is None else live_B[lo:hi])
            z = _z(block, diagonal, statistic.layout, self.workspace)
            if groups is None:
                total += c_BG[lo:hi, diagonal.group] @ z
            else:
                total += (c_BG[lo:hi, groups] * z).sum(0)
        out_P.copy_(from_layout(total, statistic.layout))


def _blocks(statistic: Statistic) -> Iterator[tuple[int, int]]:
    step = max(1, STREAM // statistic.width)
    for lo in range(0, statistic.records, step):
        yield lo, min(lo + step, statistic.records)


def _z(block: Tensor, diagonal: Diagonal, layout: Layout | None, workspace: Workspace) -> Tensor:
    """z = w ⊙ g − s in float64, in working memory."""
    w, s, _ = diagonal.ordered(layout)
    z = workspace.take("rows", tuple(block.shape), torch.float64, block.device).copy_(block)
    if w is not None:
        z *= w
    elif diagonal.scale is not None:
        z *= diagonal.scale
    if s is not None:
        z -= s
    return z


@dataclass(frozen=True)
class Ghost:
    """One position a record: g = b aᵀ, never formed."""

    a_BqI: Tensor
    b_BqO: Tensor
    layout: Layout
    diagonal: Diagonal
    squares_BG: Tensor

    @classmethod
    def of(cls, statistic: Factors, diagonal: Diagonal) -> Ghost:
        a_BqI = statistic.left(0, statistic.records)[..., 0]
        b_BqO = statistic.b_BqOT[..., 0]
        layout = statistic.layout
        if diagonal.uniform or statistic.size <= WIDE:
            a_BqI, b_BqO = a_BqI.to(torch.float64), b_BqO.to(torch.float64)
        if diagonal.uniform:
            a_Bq = torch.linalg.vector_norm(a_BqI, dim=2).square_()
            per_BqO = b_BqO.square() * a_Bq[..., None]
            if diagonal.scale is not None:
                per_BqO *= diagonal.scale.square()
        else:
            per_BqO = _weighted_squares(a_BqI, b_BqO, diagonal, layout)
        if diagonal.groups_P is None:
            squares = diagonal.place(per_BqO.sum((1, 2)))
        else:
            of_output = diagonal.groups_P.view(per_BqO[0].numel(), -1)[:, 0]
            squares = per_BqO.new_zeros(len(per_BqO), diagonal.group_count)
            squares.index_add_(1, of_output, per_BqO.flatten(1))
        return cls(a_BqI, b_BqO, layout, diagonal, squares)

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        a_BqI = kept(self.a_BqI, live_B).to(torch.float64)
        b_BqO = kept(self.b_BqO, live_B).to(torch.float64)
        if self.diagonal.groups_P is None:
            b_BqO = b_BqO * c_BG[:, self.diagonal.group, None, None]
        else:
            of_output = self.diagonal.groups_P.view(*b_BqO.shape[1:], -1)[..., 0]
            b_BqO = b_BqO * c_BG[:, of_output]
        a_qBI, b_qOB = a_BqI.transpose(0, 1), b_BqO.permute(1, 2, 0)
        if self.layout.taps_first:
            total = (b_qOB @ a_qBI).transpose(1, 2).flatten()
            out_P.copy_(from_layout(total, self.layout))
        else:
            torch.bmm(b_qOB, a_qBI, out=out_P.view(*b_qOB.shape[:2], -1))
        self.diagonal.weigh(out_P)


def _weighted_squares(a_BqI: Tensor, b_BqO: Tensor, diagonal: Diagonal, layout: Layout) -> Tensor:
    """b_o² Σ_i W²_oi a_i² for each output o, B × q × O in float64, rounded up.

    No term is negative. The sum runs over TERMS at a time and then over those runs, in the
    inputs' type with roundoff u: its error is relatively below γ_n(u) ≤ 2 n u, with n the
    TERMS, the runs, and 12 roundings of the factors.
    Inputs are scaled to at most 1 first, so nothing overflows, and what underflows is below
    4·2⁻¹²⁶ (2⁻¹⁰²²) a term.
    """
    square_qIO = diagonal.squared(layout, a_BqI.dtype)
    a_BqI, a_B = _scaled_squares(a_BqI)
    b_BqO, b_B = _scaled_squares(b_BqO)
    inputs = a_BqI.shape[2]
    finfo = torch.finfo(a_BqI.dtype)
    terms = inputs if a_BqI.dtype == torch.float64 else TERMS
    a_qBI = a_BqI.transpose(0, 1)
    inner_qBO = a_qBI[..., :terms] @ square_qIO[:, :terms]
    part_qBO = torch.empty_like(inner_qBO)
    for lo in range(terms, inputs, terms):
        inner_qBO += torch.bmm(
            a_qBI[..., lo : lo + terms], square_qIO[:, lo : lo + terms], out=part_qBO
        )
    per_BqO = inner_qBO.transpose(0, 1).to(torch.float64)
    longest = terms + -(-inputs // terms) + 12
    per_BqO *= b_BqO.to(torch.float64) * (1 + longest * finfo.eps)
    per_BqO += 4 * inputs * finfo.tiny
    return per_BqO.mul_((diagonal.largest * a_B * b_B).square()[:, None, None])


def _scaled_squares(v_BqN: Tensor) -> tuple[Tensor, Tensor]:
    """(v / largest)² and each record's largest |v|, in float64."""
    largest_B = v_BqN.abs().amax((1, 2))
    largest_B = torch.where(largest_B == 0, 1, largest_B)
    return (v_BqN / largest_B[:, None, None]).square_(), largest_B.to(torch.float64)


@dataclass(frozen=True)
class Gram:
    """Several positions, w constant: ‖Σ_t b_t a_tᵀ‖² = Σ_tt′ (a_t·a_t′)(b_t·b_t′) in float64.

    Its terms cancel, so γ·S² is added, S = Σ_t ‖a_t‖‖b_t‖, and then η·S to the norm, with
    η = γ_m / GRAM_ERROR and m the terms of the clipped sum.
    """

    statistic: Factors
    diagonal: Diagonal
    squares_BG: Tensor

    @classmethod
    def of(cls, statistic: Factors, diagonal: Diagonal) -> Gram:
        a = statistic.left(0, statistic.records).to(torch.float64)
        b = statistic.b_BqOT.to(torch.float64)
        gram_a, gram_b = a.transpose(2, 3) @ a, b.transpose(2, 3) @ b
        squares = (gram_a * gram_b).sum((1, 2, 3)).clamp_min_(0)
        diagonals = gram_a.diagonal(dim1=2, dim2=3) * gram_b.diagonal(dim1=2, dim2=3)
        size = diagonals.sqrt().sum((1, 2))
        q, o, i = statistic.layout.sizes
        t = statistic.positions
        squares += 2 * (i + o + q * t * t + 8) * UNIT_ROUNDOFF * size.square()
        terms = 2 * (statistic.records * t + 8) * UNIT_ROUNDOFF
        norm = squares.sqrt_() + (terms / GRAM_ERROR) * size
        if diagonal.scale is not None:
            norm = norm * diagonal.scale.abs()
        return cls(statistic, diagonal, diagonal.place(norm.square_()))

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        a = kept(self.statistic.left(0, self.statistic.records), live_B).to(torch.float64)
        b = kept(self.statistic.b_BqOT, live_B).to(torch.float64)
        b = b * c_BG[:, self.diagonal.group, None, None, None]
        b_qOn, a_qIn = b.permute(1, 2, 0, 3).flatten(2), a.permute(1, 2, 0, 3).flatten(2)
        total = (a_qIn @ b_qOn.transpose(1, 2)).flatten()
        out_P.copy_(from_layout(total, self.statistic.layout))
        self.diagonal.weigh(out_P)


@dataclass(frozen=True)
class Touched:
    """An embedding without a shift: only the rows of the table that a record reads."""

    statistic: Sparse
    diagonal: Diagonal
    z_BSE: Tensor
    squares_BG: Tensor

    @classmethod
    def of(cls, statistic: Sparse, diagonal: Diagonal) -> Touched:
        z_BSE = statistic.g_BSE.to(torch.float64)
        if diagonal.full_P is not None:
            z_BSE = z_BSE * diagonal.full_P.view(statistic.entries, -1)[statistic.index_BS]
        elif diagonal.scale is not None:
            z_BSE = z_BSE * diagonal.scale
        return cls(statistic, diagonal, z_BSE, diagonal.place(z_BSE.square().sum((1, 2))))

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        z_BSE = kept(self.z_BSE, live_B) * c_BG[:, self.diagonal.group, None, None]
        total = out_P.zero_().view(self.statistic.entries, -1)
        total.index_add_(0, self.statistic.index_BS.flatten(), z_BSE.flatten(0, 1))


def choose(statistic: Statistic, diagonal: Diagonal, workspace: Workspace) -> tuple[Way, str]:
    """The cheapest exact way for this statistic, from its shapes, and why.

    A product in float32 counts 1, one in float64 counts 2.
    """
    if diagonal.shift_P is not None:
        return Form.of(statistic, diagonal, workspace), "form: rows are centred"
    if isinstance(statistic, Sparse):
        if diagonal.groups_P is None:
            return Touched.of(statistic, diagonal), f"sparse: {statistic.g_BSE.shape[1]} table rows"
        return Form.of(statistic, diagonal, workspace), "form: clipping groups split the table"
    if not isinstance(statistic, Factors):
        return Form.of(statistic, diagonal, workspace), f"form: rows of {statistic.size}"
    q, o, i = statistic.layout.sizes
    t = statistic.positions
    if t == 1 and diagonal.by_output:
        return Ghost.of(statistic, diagonal), f"ghost: one position, {q}×{o}×{i} never formed"
    form = q * o * i * (t + FORM)
    gram = 2 * q * t * (t * (i + o) + o * i)
    if diagonal.uniform and diagonal.groups_P is None and gram < form:
        return Gram.of(statistic, diagonal), f"gram: {t} positions, {q}×{o}×{i} never formed"
    return Form.of(statistic, diagonal, workspace), f"form: {t} positions, rows of {statistic.size}"
