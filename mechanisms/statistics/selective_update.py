"""Selective updates: what a look releases of every record, and what it decides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import PhaseContext, Reads, Record, Release, Released, Space, State, register
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("statistic", "loss-change")
@dataclass(frozen=True, kw_only=True)
class LossChange:
    """By how much an update changes a record's loss.

    z = ℓ(θ_new, x, y) − ℓ(θ_old, x, y), one coordinate, in nats

    State: `before_D`, the weights at the start: of the phase, or of the update that is looked at.

    Source: Fu et al., DPSUR, arXiv 2311.14056, section 4.2. They clip and noise the mean over a
    batch as one number, with the whole clipping range as its sensitivity; here each record's
    change is clipped by itself, and one record moves the mean by C/B.
    Privacy: no bound of its own, the clipper of the look bounds it by C; reads the record, and
    weights that are released; checked by tests/mechanisms/statistics/test_selective_update.py.
    """

    of_loss: ClassVar[bool] = True

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        return Space.flat("loss change", 1)

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"before_D": context.weights_D}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def row_of(self, state: State, record: Record) -> Tensor:
        return (record.loss(None) - record.loss(state["before_D"]))[None]

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {}

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        return {}


@register("decision", "threshold")
@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Keep an update if the released value is below a threshold.

    kept ⇔ r ≤ β + λ·√v

    r is the noised mean of what the records gave: of `loss-change`, in nats a record; v is the
    known variance of its noise. Negative asks for proof that the update helps; positive forgives
    noise.

    Args:
        below: β, finite.
        deviations: λ, in standard deviations of the noise, finite.

    Source: Fu et al., DPSUR, arXiv 2311.14056, Algorithm 2, line 14.
    Privacy: reads a released value only; the look that it comes from is charged whatever it
    decides; checked by tests/mechanisms/statistics/test_selective_update.py.
    """

    below: float = 0.0
    deviations: float = 0.0

    def __post_init__(self) -> None:
        require(math.isfinite(self.below), self, "below", "a finite number")
        require(math.isfinite(self.deviations), self, "deviations", "a finite number")

    def accepts(self, released: Released) -> bool:
        most = self.below + self.deviations * released.variance.sqrt()
        return bool(torch.all(released.value <= most))
