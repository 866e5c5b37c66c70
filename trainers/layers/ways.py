"""The exact ways from one parameter's statistic to squared norms and clipped sums.

With z = w ⊙ g − s, every way answers `squares() -> B × G`, bounds in float64 that are never
below the true Σ_j z_j² of each group (up to the last few roundings, for which the engine adds
its final factor), and `sum(c_BG) -> Σ_i c_i z_i` in float64.

| way | when | norm | its error |
|---|---|---|---|
| form | always possible | forms z in float64, block by block | float64 rounding |
| ghost | one position, s = 0 | (b²)ᵀW²(a²), non-negative terms | γ of the inputs' type, added |
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
from trainers.layers.statistics import Factors, Sparse, Statistic, from_layout

GRAM_ERROR = 2.0**-24
STREAM = 2**17
"""Coordinates that `form` holds in float64 at a time: 1 MiB, which stays in cache."""
TERMS = 64
"""Terms that a norm sums in the inputs' type: float32 stays within 9e-6 of it, relatively."""
FORM = 60
"""What it costs to make, weigh and reduce one coordinate of one row, in float32 products."""


class Way(Protocol):
    """One parameter of one microbatch, ready to answer."""

    def squares(self) -> Tensor:
        """Upper bounds on Σ z² of each record in each group, B × G, float64."""
        ...

    def sum(self, c_BG: Tensor, live_B: Tensor | None) -> Tensor:
        """Σ_i c_i z_i in the parameter's order, float64; records not live are left out.

        `live_B` is None where all are live.
        """
        ...


@dataclass(frozen=True)
class Form:
    """Rows formed and reduced at once. A row is z as computed here in float64."""

    statistic: Statistic
    diagonal: Diagonal

    def _blocks(self) -> Iterator[tuple[int, int]]:
        step = max(1, STREAM // self.statistic.size)
        for lo in range(0, self.statistic.records, step):
            yield lo, min(lo + step, self.statistic.records)

    def _z(self, lo: int, hi: int, live_B: Tensor | None = None) -> Tensor:
        w, s, _ = self.diagonal.ordered(self.statistic.layout)
        block = kept(self.statistic.block(lo, hi), None if live_B is None else live_B[lo:hi])
        z = self.diagonal.scratch(hi - lo, block.shape[1]).copy_(block)
        if w is not None:
            z *= w
        elif self.diagonal.scale is not None:
            z *= self.diagonal.scale
        if s is not None:
            z -= s
        return z

    def squares(self) -> Tensor:
        _, _, groups = self.diagonal.ordered(self.statistic.layout)
        pieces = []
        for lo, hi in self._blocks():
            z = self._z(lo, hi)
            if groups is None:
                pieces.append(torch.linalg.vector_norm(z, dim=1).square_())
            else:
                out = z.new_zeros(hi - lo, self.diagonal.group_count)
                pieces.append(out.index_add_(1, groups, z.square_()))
        squares = torch.cat(pieces)
        return squares if groups is not None else self.diagonal.place(squares)

    def sum(self, c_BG: Tensor, live_B: Tensor | None) -> Tensor:
        _, _, groups = self.diagonal.ordered(self.statistic.layout)
        total = torch.zeros(self.statistic.size, dtype=torch.float64, device=c_BG.device)
        for lo, hi in self._blocks():
            z = self._z(lo, hi, live_B)
            if groups is None:
                total += c_BG[lo:hi, self.diagonal.group] @ z
            else:
                total += (c_BG[lo:hi, groups] * z).sum(0)
        return from_layout(total, self.statistic.layout)


@dataclass(frozen=True)
class Ghost:
    """One position a record: g = b aᵀ, never formed.

    Σ_jk W²_jk b_j² a_k² has no negative term. It is summed over k in runs of TERMS in the
    inputs' type with roundoff u, and the runs in float64: the error is relatively below
    γ_{TERMS+8}(u) ≤ 2 (TERMS + 8) u, and added. Inputs are scaled to at most 1 first, so nothing
    overflows, and what underflows is below 4·2⁻¹²⁶ (2⁻¹⁰²²) a term, added.
    """

    statistic: Factors
    diagonal: Diagonal

    def _scaled(self, v_BqN: Tensor) -> tuple[Tensor, Tensor]:
        largest_B = v_BqN.abs().amax((1, 2))
        largest_B = torch.where(largest_B == 0, 1, largest_B)
        return (v_BqN / largest_B[:, None, None]).square_(), largest_B.to(torch.float64)

    def squares(self) -> Tensor:
        diagonal, layout = self.diagonal, self.statistic.layout
        a_BqI, b_BqO = self.statistic.a_BqIT[..., 0], self.statistic.b_BqOT[..., 0]
        q, o, i = layout
        if diagonal.weight_P is None:
            a_Bq = torch.linalg.vector_norm(a_BqI, dim=2, dtype=torch.float64).square_()
            per_BqO = b_BqO.to(torch.float64).square() * a_Bq[..., None]
            if diagonal.scale is not None:
                per_BqO *= diagonal.scale.square()
            return self._grouped(per_BqO)
        square_qIO, largest = diagonal.squared(layout, a_BqI.dtype)
        a_BqI, a_B = self._scaled(a_BqI)
        b_BqO, b_B = self._scaled(b_BqO)
        per_BqO = torch.zeros_like(b_BqO, dtype=torch.float64)
        for lo in range(0, i, TERMS):
            part_qBO = a_BqI[..., lo : lo + TERMS].transpose(0, 1) @ square_qIO[:, lo : lo + TERMS]
            per_BqO += part_qBO.transpose(0, 1)
        finfo = torch.finfo(a_BqI.dtype)
        gamma = (TERMS + 8) * finfo.eps
        per_BqO *= b_BqO.to(torch.float64) * (1 + gamma)
        per_BqO += 4 * i * finfo.tiny
        per_BqO *= (largest * a_B.square() * b_B.square())[:, None, None]
        return self._grouped(per_BqO)

    def _grouped(self, per_BqO: Tensor) -> Tensor:
        q, o, i = self.statistic.layout
        if self.diagonal.groups_P is None:
            return self.diagonal.place(per_BqO.sum((1, 2)))
        out = per_BqO.new_zeros(len(per_BqO), self.diagonal.group_count)
        return out.index_add_(1, self.diagonal.groups_P.view(q * o, i)[:, 0], per_BqO.flatten(1))

    def sum(self, c_BG: Tensor, live_B: Tensor | None) -> Tensor:
        q, o, i = self.statistic.layout
        a_BqI = kept(self.statistic.a_BqIT[..., 0], live_B).to(torch.float64)
        b_BqO = kept(self.statistic.b_BqOT[..., 0], live_B).to(torch.float64)
        if self.diagonal.groups_P is None:
            b_BqO = b_BqO * c_BG[:, self.diagonal.group, None, None]
        else:
            b_BqO = b_BqO * c_BG[:, self.diagonal.groups_P.view(q, o, i)[..., 0]]
        total = (b_BqO.permute(1, 2, 0) @ a_BqI.transpose(0, 1)).flatten()
        return self.diagonal.weighted(total)


@dataclass(frozen=True)
class Gram:
    """Several positions, w constant: ‖Σ_t b_t a_tᵀ‖² = Σ_tt′ (a_t·a_t′)(b_t·b_t′) in float64.

    Its terms cancel, so γ·S² is added, S = Σ_t ‖a_t‖‖b_t‖, and then η·S to the norm, with
    η = γ_m / GRAM_ERROR and m the terms of the clipped sum.
    """

    statistic: Factors
    diagonal: Diagonal

    def squares(self) -> Tensor:
        a, b = self.statistic.a_BqIT.to(torch.float64), self.statistic.b_BqOT.to(torch.float64)
        gram_a, gram_b = a.transpose(2, 3) @ a, b.transpose(2, 3) @ b
        squares = (gram_a * gram_b).sum((1, 2, 3)).clamp_min_(0)
        diagonals = gram_a.diagonal(dim1=2, dim2=3) * gram_b.diagonal(dim1=2, dim2=3)
        size = diagonals.sqrt().sum((1, 2))
        q, o, i = self.statistic.layout
        t = self.statistic.positions
        squares += 2 * (i + o + q * t * t + 8) * UNIT_ROUNDOFF * size.square()
        terms = 2 * (self.statistic.records * t + 8) * UNIT_ROUNDOFF
        norm = squares.sqrt_() + (terms / GRAM_ERROR) * size
        if self.diagonal.scale is not None:
            norm = norm * self.diagonal.scale.abs()
        return self.diagonal.place(norm.square_())

    def sum(self, c_BG: Tensor, live_B: Tensor | None) -> Tensor:
        a = kept(self.statistic.a_BqIT, live_B).to(torch.float64)
        b = kept(self.statistic.b_BqOT, live_B).to(torch.float64)
        b = b * c_BG[:, self.diagonal.group, None, None, None]
        b_qOn, a_qIn = b.permute(1, 2, 0, 3).flatten(2), a.permute(1, 2, 0, 3).flatten(2)
        return self.diagonal.weighted((b_qOn @ a_qIn.transpose(1, 2)).flatten())


@dataclass(frozen=True)
class Touched:
    """An embedding without a shift: only the rows of the table that a record reads."""

    statistic: Sparse
    diagonal: Diagonal

    def _z(self, live_B: Tensor | None = None) -> Tensor:
        z_BSE = kept(self.statistic.g_BSE, live_B).to(torch.float64, copy=True)
        if self.diagonal.weight_P is not None:
            table_VE = self.diagonal.weight_P.view(self.statistic.entries, -1)
            z_BSE *= table_VE[self.statistic.index_BS]
        elif self.diagonal.scale is not None:
            z_BSE *= self.diagonal.scale
        return z_BSE

    def squares(self) -> Tensor:
        return self.diagonal.place(self._z().square_().sum((1, 2)))

    def sum(self, c_BG: Tensor, live_B: Tensor | None) -> Tensor:
        z_BSE = self._z(live_B) * c_BG[:, self.diagonal.group, None, None]
        total = z_BSE.new_zeros(self.statistic.entries, z_BSE.shape[2])
        return total.index_add_(0, self.statistic.index_BS.flatten(), z_BSE.flatten(0, 1)).flatten()


def choose(statistic: Statistic, diagonal: Diagonal) -> tuple[Way, str]:
    """The cheapest exact way for this statistic, from its shapes, and why.

    A product in float32 counts 1, one in float64 counts 2.
    """
    if diagonal.shift_P is not None:
        return Form(statistic, diagonal), "form: rows are centred"
    if isinstance(statistic, Sparse):
        if diagonal.groups_P is None:
            return Touched(statistic, diagonal), f"sparse: {statistic.g_BSE.shape[1]} table rows"
        return Form(statistic, diagonal), "form: clipping groups split the table"
    if not isinstance(statistic, Factors):
        return Form(statistic, diagonal), f"form: rows of {statistic.size}"
    q, o, i = statistic.layout
    t = statistic.positions
    if t == 1 and diagonal.by_output:
        return Ghost(statistic, diagonal), f"ghost: one position, {q} × {o} × {i} never formed"
    form = q * o * i * (t + FORM)
    gram = 2 * q * t * (t * (i + o) + o * i)
    if diagonal.weight_P is None and diagonal.groups_P is None and gram < form:
        return Gram(statistic, diagonal), f"gram: {t} positions, {q} × {o} × {i} never formed"
    return Form(statistic, diagonal), f"form: {t} positions, rows of {statistic.size}"

