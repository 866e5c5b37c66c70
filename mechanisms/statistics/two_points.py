"""The gradient at two points, weighted within the record before it is clipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import PhaseContext, Reads, Record, Release, Released, Space, State, register
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("statistic", "two-points")
@dataclass(frozen=True, kw_only=True)
class TwoPoints:
    """What a Kalman filter of the gradient measures: here, and ahead along the last move.

    z = w·∇ℓ(θ_t + γ(θ_t − θ_{t−1})) + (1 − w)·∇ℓ(θ_t),  w = (1 − κ)/(κγ)

    The two differ by about γ·∇²ℓ·(θ_t − θ_{t−1}), by which the filtered gradient of the step before
    is out of date; with a `low-pass` of weight κ after the release,
    m_t = (1 − κ)·m_{t−1} + κ·ĝ_t, the error of being late is taken out to first order. At
    γ = (1 − κ)/κ the weight w is 1, and one gradient would do. Rows are formed whole, by two
    gradients a record.

    Args:
        gain: κ, that of the filter, in (0, 1].
        ahead: γ, above 0: how far ahead, in lengths of the last move.

    State: `past_D`, θ_{t−1}; θ_0 before the first step, where both points are one.

    Source: Zhang et al. 2024, DiSK (arXiv 2410.03883), its simplified filter, and the authors'
    code, whose κ = 0.7 and γ = 0.5 these are.
    Privacy: no bound of its own, the clipper bounds z; a record's row depends on that record at
    released weights; checked by tests/mechanisms/statistics/test_two_points.py.
    """

    gain: float = 0.7
    ahead: float = 0.5
    of_loss: ClassVar[bool] = True
    asks_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(0 < self.gain <= 1, self, "gain", "a share in (0, 1]")
        require(0 < self.ahead < math.inf, self, "ahead", "a finite number above 0")

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        return parameters

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"past_D": context.weights_D.detach().clone()}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state if release.weights_D is None else {"past_D": release.weights_D}

    def row_of(self, state: State, record: Record) -> Tensor:
        assert record.weights is not None
        here_D = record.weights()
        ahead_D = here_D + self.ahead * (here_D - state["past_D"].to(here_D.dtype))
        weight = (1 - self.gain) / (self.gain * self.ahead)

        def loss(at_D: Tensor) -> Tensor:
            return record.loss(at_D)

        gradient = torch.func.grad(loss)
        row_D: Tensor = weight * gradient(ahead_D) + (1 - weight) * gradient(here_D)
        return row_D

    def gradient(self, state: State, release: Release) -> Released:
        return release.gradient

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {}

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        return {}
