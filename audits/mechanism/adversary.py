"""Adversarial rows: the batch, and the one record more, on which a mechanism is audited.

A row is chosen from what is public at the step: the support, the states, what was released. So
the adversary may adapt to it, as the claim allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from dpigu.dpcore import Affine, StepContext
from dpigu.mechanisms.public_random import public_generator
from torch import Tensor

CROWD = 15
"""The records of the batch that the one record joins, where there are any."""

Shape = Literal["dense", "spike", "state", "frozen"]
Pattern = Literal["steady", "alternating", "once"]
IDENTITY = Affine(torch.ones(()))


@dataclass(frozen=True, kw_only=True)
class Situation:
    """One record's rows over the steps, and the batch that it joins or leaves.

    Args:
        name: in words, as the report has it.
        shape: where the row lies: on every coordinate (frozen ones too), on one live coordinate,
            along what was released so far, or on frozen coordinates alone.
        norm: its norm on the live coordinates at the clipper, in units of the bound C.
        crowd: 15 other rows of norm C along the record's row (1) or against it (-1), or none (0).
        pattern: the sign of the row over the steps: + + + +, + − + −, or + 0 0 0.
        entry: a value for the row's first entry, such as NaN; None leaves it.
    """

    name: str
    shape: Shape = "dense"
    norm: float = 1.0
    crowd: Literal[-1, 0, 1] = 0
    pattern: Pattern = "steady"
    entry: float | None = None

    def sign(self, step: int) -> int:
        """The sign of the row at a step of the short run."""
        if self.pattern == "alternating":
            return 1 - 2 * (step % 2)
        return int(step == 0 or self.pattern == "steady")


FAR = 1e4
SITUATIONS = (
    Situation(name="a row at the bound"),
    Situation(name="a row far beyond the bound", norm=FAR),
    Situation(name="a row that changes sign at every step", norm=FAR, pattern="alternating"),
    Situation(name="a row in the first step alone", norm=FAR, pattern="once"),
    Situation(name="a row on one coordinate", shape="spike", norm=FAR),
    Situation(name="a row along what was released", shape="state", norm=FAR),
    Situation(name="a row against what was released", shape="state", norm=-FAR),
    Situation(name="a row on frozen coordinates", shape="frozen", norm=FAR),
    Situation(name="a row along a batch", norm=FAR, crowd=1),
    Situation(name="a row against a batch", norm=FAR, crowd=-1),
    Situation(name="a row with NaN", crowd=1, entry=float("nan")),
    Situation(name="a row with infinity", crowd=1, entry=float("inf")),
)
"""The situations that are tried; what a pipeline has no room for gives a row of zeros."""


@dataclass(frozen=True)
class AdversarialRows:
    """The gradients of a batch (crowd × D) and of the one record (D), float32.

    `row_D` is the record's row at the clipper where that is known beforehand, float64: where
    the transform is affine. Else only the stages can tell.
    """

    crowd_BD: Tensor
    record_D: Tensor
    row_D: Tensor | None


def adversarial_rows(
    situation: Situation, context: StepContext, bound: float, step: int, released_D: Tensor
) -> AdversarialRows:
    """The batch's gradients and the one record's.

    Where the transform is affine, z = w ⊙ g − s, the gradient is g = (z + s)/w for the row z that
    is meant (z itself where w = 0), so that the row at the clipper is exactly the one meant.

    Args:
        context: what is public before the step.
        bound: C at this step.
        step: of the short run, from 0.
        released_D: the sum of the gradients released so far, length D.
    """
    support_D = context.support_D
    direction_D = _direction(situation.shape, support_D, released_D)
    live_D = torch.where(support_D, direction_D, 0)
    length = float((live_D if situation.shape != "frozen" else direction_D).norm())
    unit_D = direction_D * (bound / length if length > 0 else 0.0)
    scale = situation.sign(step) * situation.norm
    z_BD = torch.stack([situation.crowd * unit_D, scale * unit_D])
    affine = context.transform.affine(z_BD.device) if context.transform.maps else IDENTITY
    row_D = torch.where(support_D, z_BD[1], 0) if affine is not None else None
    if affine is not None and affine is not IDENTITY:
        weight_D, shift_D = affine.dense()
        moved_D = weight_D != 0
        w_D = torch.where(moved_D, weight_D, 1.0)
        z_BD = torch.where(moved_D, (z_BD + shift_D) / w_D, z_BD)
    g_BD = z_BD.to(torch.float32)
    record_D = g_BD[1]
    if situation.entry is not None:
        record_D[0] = situation.entry
        row_D = None if row_D is None else torch.full_like(row_D, torch.nan)
    crowd_BD = g_BD[:1].expand(CROWD if situation.crowd else 0, -1)
    return AdversarialRows(crowd_BD, record_D, row_D)


def _direction(shape: Shape, support_D: Tensor, released_D: Tensor) -> Tensor:
    """A vector in the direction that is meant, of any length; float64."""
    if shape == "spike":
        first = int(support_D.to(torch.int8).argmax())
        return torch.nn.functional.one_hot(torch.tensor(first), len(support_D)).double()
    signs_D = _signs(len(support_D))
    if shape == "frozen":
        return torch.where(support_D, 0, signs_D)
    if shape == "state" and bool(released_D.isfinite().all() & released_D.any()):
        return released_D
    return signs_D


@cache
def _signs(size: int) -> Tensor:
    """A vector of ±1, the same on every machine."""
    generator = public_generator("adversary", size)
    return 1.0 - 2.0 * torch.randint(2, (size,), generator=generator, dtype=torch.float64)
