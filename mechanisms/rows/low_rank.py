"""Low-rank carriers: a weight matrix's gradient by its products with two thin matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, Released, Space, State, register
from dpigu.mechanisms.public_random import public_generator
from dpigu.mechanisms.rows.coded_space import Coded, home_of
from dpigu.mechanisms.validate import require
from torch import Tensor


class Carriers(NamedTuple):
    """L (P × R, orthonormal columns) and R (R × Q, orthonormal rows) of one P × Q matrix."""

    left_PR: Tensor
    right_RQ: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """P and Q."""
        return self.left_PR.shape[0], self.right_RQ.shape[1]


def matrix_rank(shape: tuple[int, ...], rank: int) -> int:
    """The rank of the carriers of a block: 0 where they would save nothing, and for vectors."""
    if len(shape) < 2:
        return 0
    rows, columns = shape[0], math.prod(shape[1:])
    rank = min(rank, rows, columns)
    return rank if rank * (rows + columns) < rows * columns else 0


def carriers_in(state: State) -> list[Carriers]:
    """The carriers of every reparametrized matrix, in the order of the space."""
    count = sum(key.startswith("left.") for key in state)
    return [Carriers(state[f"left.{i}"], state[f"right.{i}"]) for i in range(count)]


def _matrices(ordered_D: Tensor, carriers: list[Carriers]) -> Iterator[tuple[Carriers, Tensor]]:
    """Every reparametrized matrix of a vector that has them first."""
    start = 0
    for pair in carriers:
        size = math.prod(pair.shape)
        yield pair, ordered_D[start : start + size].reshape(pair.shape)
        start += size


def _kept(ordered_D: Tensor, carriers: list[Carriers]) -> Tensor:
    """What comes after the matrices, and is kept as it is."""
    return ordered_D[sum(math.prod(pair.shape) for pair in carriers) :]


@register("row", "low-rank")
@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Each record's gradient of a weight matrix, as the gradients of its low-rank carriers.

    z = (G Rᵀ, Lᵀ G) for each P × Q matrix: r·(P + Q) coordinates in place of P·Q

    These are the gradients of L and R in W = L R + W̃ at W. Convolutions count as
    (outputs × the rest). Biases, and matrices that carriers would not make smaller, are kept as
    they are. L and R hold the principal directions of the sum of the released gradients, one step
    of the power method a step; they start at public random ones. `low-rank-restorer` leads back.

    Args:
        rank: r, at least 1.

    State: `history_D`, the sum; `left.i` and `right.i`, the carriers; `order_D`, the coordinates
    with the matrices first. float64 and int64.

    Source: Yu et al. 2021, RGP (arXiv 2106.09352): carriers from historical
    updates. Their code starts from a fresh random R at every step, takes W/‖W‖ less an earlier one
    for history and the gradient of L alone, and leaves the last layer as it is.
    Privacy: no bound of its own, the clipper bounds z; one record's row depends on its own
    gradient and on carriers from released gradients and the public seed; checked by
    tests/mechanisms/rows/test_low_rank.py.
    """

    rank: int = 2

    def __post_init__(self) -> None:
        require(self.rank >= 1, self, "rank", "at least 1")

    def output_space(self, space: Space) -> Space:
        names: list[str] = []
        shapes: list[tuple[int, ...]] = []
        for name, shape in zip(space.names, space.shapes, strict=True):
            if rank := matrix_rank(shape, self.rank):
                names += [f"{name}.left", f"{name}.right"]
                shapes += [(shape[0], rank), (rank, math.prod(shape[1:]))]
        for name, shape in zip(space.names, space.shapes, strict=True):
            if not matrix_rank(shape, self.rank):
                names.append(name)
                shapes.append(shape)
        return Coded(tuple(names), tuple(shapes), space)

    def init(self, context: PhaseContext, reads: Reads) -> State:
        device, generator = context.weights_D.device, public_generator("low-rank", context.seed)
        state = {"history_D": context.zeros()}
        places: tuple[list[Tensor], list[Tensor]] = ([], [])
        for _, at, shape in context.space.blocks():
            rank = matrix_rank(shape, self.rank)
            places[not rank].append(torch.arange(at.start, at.stop))
            if rank:
                i = len(places[0]) - 1
                for side, size in (("left", shape[0]), ("right", math.prod(shape[1:]))):
                    draws = torch.randn(size, rank, generator=generator, dtype=torch.float64)
                    q = torch.linalg.qr(draws).Q.to(device)
                    state[f"{side}.{i}"] = q if side == "left" else q.T.contiguous()
        return {**state, "order_D": torch.cat([*places[0], *places[1]]).to(device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        history_D = state["history_D"] + release.gradient.value
        after = {**state, "history_D": history_D}
        moved = _matrices(history_D[state["order_D"]], carriers_in(state))
        for i, (pair, sum_PQ) in enumerate(moved):
            left_PR = torch.linalg.qr(sum_PQ @ pair.right_RQ.T).Q
            right_QR = torch.linalg.qr(sum_PQ.T @ left_PR).Q
            after |= {f"left.{i}": left_PR, f"right.{i}": right_QR.T.contiguous()}
        return after

    def row(self, state: State, g_D: Tensor) -> Tensor:
        carriers = carriers_in(state)
        ordered_D, pieces = g_D[state["order_D"]], []
        for (left_PR, right_RQ), g_PQ in _matrices(ordered_D, carriers):
            pieces.append((g_PQ @ right_RQ.T.to(g_D.dtype)).reshape(-1))
            pieces.append((left_PR.T.to(g_D.dtype) @ g_PQ).reshape(-1))
        return torch.cat([*pieces, _kept(ordered_D, carriers)])


@register("post", "low-rank-restorer")
@dataclass(frozen=True, kw_only=True)
class LowRankRestorer:
    """The gradient of every weight matrix from the released gradients of its carriers.

    ∂W = ∂L·R + L·∂R − L Lᵀ ∂L R

    For the carriers' gradients of one G this is G − (I − L Lᵀ) G (I − Rᵀ R), the orthogonal
    projection of G to the matrices whose columns are in L or whose rows are in R. The variance is
    exact: ((I − L Lᵀ)∘²) v_L (R∘²) + (L∘²) v_R.

    Args:
        reads: the `low-rank` row map, by name.

    Errors: `GrammarError` if no row map made carriers' gradients.

    Source: Yu et al. 2021, RGP (arXiv 2106.09352): how W moves from the gradients of its
    carriers.
    Privacy: post-processing of the released vector; reads released carriers; checked by
    tests/mechanisms/rows/test_low_rank.py.
    """

    reads: tuple[str, ...] = ("low-rank",)

    def __post_init__(self) -> None:
        require(len(self.reads) == 1, self, "reads", "the name of one low-rank row map")

    def output_space(self, space: Space) -> Space:
        return home_of(space, self)

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        (name,) = self.reads
        low_rank = reads[name].state
        values, variances, start = [], [], 0
        for left_PR, right_RQ in carriers_in(low_rank):
            sizes = (left_PR.numel(), right_RQ.numel())
            (l_PR, r_RQ), (vl_PR, vr_RQ) = (
                (left.reshape(left_PR.shape), right.reshape(right_RQ.shape))
                for left, right in (
                    torch.split(vector[start : start + sum(sizes)], list(sizes))
                    for vector in (released.value, released.variance)
                )
            )
            outside_PP = torch.eye(len(left_PR), dtype=torch.float64, device=left_PR.device)
            outside_PP = outside_PP - left_PR @ left_PR.T
            values.append((outside_PP @ l_PR @ right_RQ + left_PR @ r_RQ).reshape(-1))
            variance_PQ = outside_PP**2 @ vl_PR @ right_RQ**2 + left_PR**2 @ vr_RQ
            variances.append(variance_PQ.reshape(-1))
            start += sum(sizes)
        value_D = torch.cat([*values, released.value[start:]])
        variance_D = torch.cat([*variances, released.variance[start:]])
        back_D = low_rank["order_D"].argsort()
        return released.derive(value_D[back_D], variance_D[back_D])
