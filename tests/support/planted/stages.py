"""Broken stages that no check was made for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import Affine, PhaseContext, Reads, Release, Space, State
from torch import Tensor

from tests.mutants.broken_rows import escaped


class _Same:
    def output_space(self, space: Space) -> Space:
        return space


@dataclass(frozen=True, kw_only=True)
class WhitensTheBatch(_Same):
    """Divides each row by the batch's deviation. Privacy: none."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D / (1 + escaped(g_D).std())


@dataclass(frozen=True, kw_only=True)
class MasksByTheBatch(_Same):
    """Keeps the coordinates where the batch's sum is positive. Privacy: none."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        batch = escaped(g_D)
        sum_D = batch.sum(0) if batch.dim() > 1 else batch
        return torch.where(sum_D > 0, g_D, 0.0)


@dataclass(frozen=True, kw_only=True)
class TailOfTheBatch(_Same):
    """Coordinates from 1,024 on are the batch's mean. Privacy: none."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        tail_D = torch.arange(len(g_D)) >= 1024
        return torch.where(tail_D, escaped(g_D).mean(), g_D)


@dataclass(frozen=True, kw_only=True)
class TailLeftOut(_Same):
    """Declares a map that leaves coordinates from 1,024 on as they are. Privacy: none."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D / 2

    def affine(self, state: State) -> Affine:
        return Affine(torch.where(state["index_D"] < 1024, 0.5, 1.0))

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"index_D": torch.arange(context.space.size)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state
