"""Row maps: from one record's gradient to the row that is clipped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpigu import Affine, GrammarError, PhaseContext, Reads, Release, Space, State, register


@register("row", "acme/fan-in-scale")
@dataclass(frozen=True, kw_only=True)
class FanInScale:
    """Weights of units with many inputs count less in a record's norm.

    z_j = g_j / n_j^power, with n_j the number of inputs of the unit that coordinate j belongs to
    (1 for a bias)

    It is diagonal and affine and says so, which lets the fast engine serve it; and that a
    parameter has one weight, which makes it faster. Undo it with `affine-restorer`, of =
    "acme/fan-in-scale".

    Args:
        power: 0 changes nothing; at least 0.

    State: `weight_D`, from the public shapes of the parameters; no step changes it.

    Privacy: no bound of its own, the clipper comes after it; reads public shapes and the row;
    checked by tests/test_stages.py.
    """

    weighs_by_parameter: ClassVar[bool] = True

    power: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.power < math.inf:
            raise GrammarError(
                "an option is out of range",
                where="acme/fan-in-scale.power",
                got=self.power,
                expected="a finite number, at least 0",
            )

    def output_space(self, space: Space) -> Space:
        return space

    def init(self, context: PhaseContext, reads: Reads) -> State:
        weight_D = torch.ones_like(context.weights_D, dtype=torch.float64)
        for _, at, shape in context.space.blocks():
            weight_D[at] = math.prod(shape[1:]) ** -self.power
        return {"weight_D": weight_D}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def affine(self, state: State) -> Affine:
        return Affine(state["weight_D"])

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return state["weight_D"].to(g_D.dtype) * g_D


@register("row", "acme/soft-clamp")
@dataclass(frozen=True, kw_only=True)
class SoftClamp:
    """No coordinate of a record's row is larger than a limit.

    z_j = τ · tanh(g_j / τ)

    Not affine, so it runs on the engine that forms every row. It cannot be undone, so nothing
    restores it: the released vector is the mean of clamped gradients.

    Args:
        limit: τ, above 0, in the gradient's unit.

    Privacy: no bound of its own, the clipper comes after it; reads the row alone; checked by
    tests/test_stages.py.
    """

    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.limit < math.inf:
            raise GrammarError(
                "an option is out of range",
                where="acme/soft-clamp.limit",
                got=self.limit,
                expected="a finite number above 0",
            )

    def output_space(self, space: Space) -> Space:
        return space

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return self.limit * torch.tanh(g_D / self.limit)
