"""Weighted ghost norms: one position a record, so that its row is an outer product b aᵀ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from dpigu.trainers.engines.layers.affine_slice import AffineSlice, kept
from dpigu.trainers.engines.layers.costs import costs_of
from dpigu.trainers.engines.layers.parameter_rows import Factors, Layout, from_layout
from dpigu.trainers.engines.layers.workspace import Workspace, blocks, wide
from torch import Tensor

WIDE = 2**17
"""Coordinates up to which a ghost norm is taken in float64; above, in the inputs' type."""
TERMS = 128
"""Terms that a ghost norm then sums at a time: float32 stays within 1e-5 for 4000 inputs."""


@dataclass(frozen=True)
class Ghost:
    """One position a record: g = b aᵀ, never formed."""

    rows: Factors
    diagonal: AffineSlice
    workspace: Workspace
    squares_BG: Tensor

    @classmethod
    def of(cls, rows: Factors, diagonal: AffineSlice, workspace: Workspace) -> Ghost:
        b_BqO, layout, groups_P = rows.b_BqOT[..., 0], rows.layout, diagonal.groups_P
        count = diagonal.group_count if groups_P is not None else 1
        squares = b_BqO.new_empty((len(b_BqO), count), dtype=torch.float64)
        of_output = None if groups_P is None else groups_P.view(b_BqO[0].numel(), -1)[:, 0]
        squared, pieces = _squares, _pieces(rows)
        if not diagonal.uniform:
            squared = _weighted_squares
            pieces = blocks(rows.records, costs_of(rows.device).run)
        for lo, hi in pieces:
            a_nqI = rows.left(lo, hi)[..., 0]
            squares[lo:hi] = squared(a_nqI, b_BqO[lo:hi], diagonal, layout, of_output, workspace)
        if of_output is None:
            squares = diagonal.place(squares[:, 0])
        return cls(rows, diagonal, workspace, squares)

    def sum(self, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
        layout = self.rows.layout
        q, o, i = layout.sizes
        in_order = not layout.taps_first
        total_qOI = out_P.view(q, o, i) if in_order else out_P.new_empty(q, o, i)
        for lo, hi in _pieces(self.rows):
            live_n = None if live_B is None else live_B[lo:hi]
            a_nqI = kept(self.rows.left(lo, hi)[..., 0], live_n)
            b_nqO = kept(self.rows.b_BqOT[lo:hi, ..., 0], live_n)
            a_nqI = wide("left", a_nqI, self.workspace)
            b_nqO = wide("right", b_nqO, self.workspace)
            b_nqO *= self._factors(c_BG[lo:hi])
            a_qnI, b_qOn = a_nqI.transpose(0, 1), b_nqO.permute(1, 2, 0)
            total_qOI.baddbmm_(b_qOn, a_qnI, beta=1 if lo else 0)
        if not in_order:
            out_P.copy_(from_layout(total_qOI.transpose(1, 2).flatten(), layout))
        self.diagonal.weigh(out_P)

    def _factors(self, c_nG: Tensor) -> Tensor:
        """The factor of every output, or of all: n × q × O or n × 1 × 1."""
        if self.diagonal.groups_P is None:
            return self.diagonal.scaled(c_nG[:, self.diagonal.group, None, None])
        of_output = self.diagonal.groups_P.view(*self.rows.layout.sizes[:2], -1)[..., 0]
        return self.diagonal.scaled(c_nG[:, of_output])


def _pieces(rows: Factors) -> Iterator[tuple[int, int]]:
    """Records whose inputs stay in cache, or as many as there are outputs: then products count."""
    costs, (q, o, i) = costs_of(rows.device), rows.layout.sizes
    return blocks(rows.records, min(costs.run, max(1, costs.stream // max(1, q * i), o)))


def _by_group(v_nqO: Tensor, of_output: Tensor | None, groups: int) -> Tensor:
    """Sums over the outputs of each group, or over all: n × G or n × 1, in float64."""
    if of_output is None:
        return v_nqO.sum((1, 2), dtype=torch.float64)[:, None]
    out = torch.zeros(len(v_nqO), groups, dtype=torch.float64, device=v_nqO.device)
    return out.index_add_(1, of_output, v_nqO.flatten(1).to(torch.float64))


def _squares(
    a_nqI: Tensor,
    b_nqO: Tensor,
    diagonal: AffineSlice,
    layout: Layout,
    of_output: Tensor | None,
    workspace: Workspace,
) -> Tensor:
    """w² Σ_oi b_o² a_i² over the outputs o of each group, where w is one number: float64."""
    a_nq = torch.linalg.vector_norm(wide("left", a_nqI, workspace), dim=2).square_()
    b_nqO = wide("right", b_nqO, workspace)
    if of_output is None:
        b_nq = torch.linalg.vector_norm(b_nqO, dim=2).square_()
        squares: Tensor = (b_nq * a_nq).sum(1, keepdim=True)
    else:
        per_nqO = b_nqO.square_().mul_(a_nq[..., None])
        squares = _by_group(per_nqO, of_output, diagonal.group_count)
    return squares if diagonal.scale is None else squares * diagonal.scale.square()


def _weighted_squares(
    a_nqI: Tensor,
    b_nqO: Tensor,
    diagonal: AffineSlice,
    layout: Layout,
    of_output: Tensor | None,
    workspace: Workspace,
) -> Tensor:
    """Σ_oi w²_oi b_o² a_i² over the outputs o of each group, rounded up to float64.

    No term is negative. The sum over i runs over TERMS at a time and then over those runs, in
    the inputs' type (float64 for small weights) with roundoff u: its error is relatively below
    γ_n(u) ≤ 2 n u, with n the TERMS, the runs, and 14 roundings of the factors.
    Inputs are scaled first, exactly, to less than 1 (to less than 8 where they are huge), so
    nothing overflows, and what underflows is below 512·2⁻¹²⁶ (2⁻¹⁰²²) a term.
    """
    if layout.sizes[0] * layout.sizes[1] * layout.sizes[2] <= WIDE:
        a_nqI, b_nqO = a_nqI.to(torch.float64), b_nqO.to(torch.float64)
    square_qIO = diagonal.squared(layout, a_nqI.dtype)
    a_nqI, a_n = _scaled_squares(a_nqI, workspace, "squares of inputs")
    b_nqO, b_n = _scaled_squares(b_nqO, workspace, "squares of gradients")
    (q, o, inputs), finfo = layout.sizes, torch.finfo(a_nqI.dtype)
    terms = inputs if a_nqI.dtype == torch.float64 else TERMS
    a_qnI, b_qnO = a_nqI.transpose(0, 1), b_nqO.transpose(0, 1)
    squares = torch.zeros((), dtype=torch.float64, device=a_nqI.device)
    for first, last in blocks(o, costs_of(a_nqI.device).outputs):
        here, shape = slice(first, last), (q, len(b_nqO), last - first)
        inner_qnT, part_qnT = (
            workspace.take(purpose, shape, a_nqI.dtype, a_nqI.device)
            for purpose in ("inner", "part")
        )
        torch.bmm(a_qnI[..., :terms], square_qIO[:, :terms, here], out=inner_qnT)
        for lo in range(terms, inputs, terms):
            run = slice(lo, lo + terms)
            inner_qnT += torch.bmm(a_qnI[..., run], square_qIO[:, run, here], out=part_qnT)
        inner_qnT *= b_qnO[..., here]
        of_these = None if of_output is None else of_output.view(q, o)[:, here].flatten()
        squares = squares + _by_group(inner_qnT.transpose(0, 1), of_these, diagonal.group_count)
    squares *= 1 + (terms + -(-inputs // terms) + 14) * finfo.eps
    squares += 512 * b_nqO[0].numel() * inputs * finfo.tiny
    return squares.mul_((diagonal.largest * a_n * b_n).square()[:, None])


def _scaled_squares(v_nqN: Tensor, workspace: Workspace, purpose: str) -> tuple[Tensor, Tensor]:
    """(v / p)², in working memory, and each record's p in float64: the power of two
    above its largest |v|, but between 2⁻¹²⁵ and 2¹²⁵ (2⁻¹⁰²¹ and 2¹⁰²¹)."""
    largest_n = torch.maximum(v_nqN.amax((1, 2)), -v_nqN.amin((1, 2)))
    tiny = torch.finfo(v_nqN.dtype).tiny
    largest_n = largest_n.clamp(tiny, 0.25 / tiny)
    power_n = largest_n / torch.frexp(largest_n).mantissa
    scaled = workspace.take(purpose, tuple(v_nqN.shape), v_nqN.dtype, v_nqN.device)
    torch.mul(v_nqN, (1 / power_n)[:, None, None], out=scaled)
    return scaled.square_(), power_n.to(torch.float64)
