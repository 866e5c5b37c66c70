"""Training without gradients: one number a record, along a public random direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import PhaseContext, Reads, Record, Release, Released, Space, State, register
from dpigu.mechanisms.public_random import public_generator
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("statistic", "zeroth-order")
@dataclass(frozen=True, kw_only=True)
class ZerothOrder:
    """A clipped difference of two losses, along a fresh public direction at every step.

    z = (ℓ(θ + φu, x, y) − ℓ(θ − φu, x, y))/(2φ),  u ~ N(0, I_D) from the public seed;
    the gradient is taken to be z̃·u, z̃ the released mean

    Noise is one number a step, whatever D; and a step sees its gradient along one direction, so
    that it learns about D times less than from the gradient itself: for large pre-trained models,
    of which few directions matter. A record costs two forward passes and no backward pass.

    Args:
        radius: φ, above 0, in the unit of the weights.

    State: `direction_D`, u of the coming step, float64, and the public `seed`.

    Source: Tang et al. 2024, DP-ZO (arXiv 2401.04343); Zhang et al. 2023, DPZero
    (arXiv 2310.09639), whose proofs take u from a sphere and whose code takes it as here.
    Privacy: no bound of its own, the clipper bounds z; a record's row depends on its own losses at
    public or released weights; the gradient is computed from the released mean; checked by
    tests/mechanisms/statistics/test_zeroth_order.py.
    """

    radius: float = 1e-3
    of_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(0 < self.radius < math.inf, self, "radius", "a finite number above 0")

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        return Space.flat("slope", 1)

    def init(self, context: PhaseContext, reads: Reads) -> State:
        seed = torch.tensor(context.seed, device=context.weights_D.device)
        return {"direction_D": _direction(seed, 0, context.weights_D), "seed": seed}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        ahead_D = _direction(state["seed"], release.clock.step + 1, state["direction_D"])
        return {"direction_D": ahead_D, "seed": state["seed"]}

    def row_of(self, state: State, record: Record) -> Tensor:
        assert record.weights is not None
        weights_D = record.weights()
        aside_D = self.radius * state["direction_D"].to(weights_D.dtype)
        slope = record.loss(weights_D + aside_D) - record.loss(weights_D - aside_D)
        return (slope / (2 * self.radius))[None]

    def gradient(self, state: State, release: Release) -> Released:
        u_D = _direction(state["seed"], release.clock.step, state["direction_D"])
        slope = release.gradient
        return slope.derive(slope.value * u_D, slope.variance * u_D**2)

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {}

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        return {}


def _direction(seed: Tensor, step: int, like_D: Tensor) -> Tensor:
    """u of a step, float64."""
    generator = public_generator("zeroth-order", int(seed), step)
    u_D = torch.randn(len(like_D), generator=generator, dtype=torch.float64)
    return u_D.to(like_D.device)
