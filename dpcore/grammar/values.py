"""What stages are given and what they give: states, contexts, releases, records, affine maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from dpigu.dpcore.grammar.spaces import Released, Space
from torch import Tensor

State = Mapping[str, Tensor]
"""What a stage keeps between steps: tensors by name, computed from released values alone."""


class View(NamedTuple):
    """A stage and its state, as another stage sees them that named it in `reads`."""

    stage: Any
    state: State


Reads = Mapping[str, View]
"""The stages that a stage named in `reads`, each with its state."""


@dataclass(frozen=True)
class Clock:
    """Where a phase stands: this step (from 0) of how many. Public."""

    step: int
    steps: int


@dataclass(frozen=True)
class PhaseContext:
    """What a stage may know when a phase starts. Public or released, all of it.

    Args:
        space: the space of the vectors that the stage will see.
        weights_D: the model's trainable parameters at the start of the phase.
        steps: the number of steps of the phase.
        seed: the user's seed, for public randomness only.
        public_MD: the gradients of M public records at these weights, if there are any.
    """

    space: Space
    weights_D: Tensor
    steps: int
    seed: int
    public_MD: Tensor | None = None

    def zeros(self) -> Tensor:
        """A float64 zero vector in the stage's space, where the weights live."""
        return torch.zeros(self.space.size, dtype=torch.float64, device=self.weights_D.device)


@dataclass(frozen=True)
class Release:
    """All that one step made public.

    Args:
        gradient: the released gradient after the post maps, length D.
        noised: the noised mean as it left the noiser, before the post maps, length K.
        queries: the released vector of each query, by name.
        support_D: the coordinates that were live, boolean.
        clock: the step that it came from.
        public_MD: the gradients of M public records where this step's was taken, if any.
        weights_D: where this step stood, length D, for a stage that asks (`asks_weights`).
    """

    gradient: Released
    noised: Released
    queries: Mapping[str, Released]
    support_D: Tensor
    clock: Clock
    public_MD: Tensor | None = None
    weights_D: Tensor | None = None


class Record(NamedTuple):
    """One record, as a statistic sees it.

    Args:
        x: what the model is given.
        y: the target.
        loss: the record's loss at given weights (length D), or where the step stands (None).
        gradient: its gradient where the step stands, length D.
        outputs: the model's outputs for it where the step stands, without an axis of records;
            None where there is no model.
        weights: where the step stands, length D; None where there is no model.
    """

    x: Tensor
    y: Tensor
    loss: Callable[[Tensor | None], Tensor]
    gradient: Callable[[], Tensor]
    outputs: Callable[[], Tensor] | None = None
    weights: Callable[[], Tensor] | None = None


class Affine(NamedTuple):
    """A diagonal affine map of a row: z = weight ⊙ g − shift.

    `shift_D` is None for a map that never has one: rows are then cheaper, and no engine
    needs to look at values on a device to know it.
    """

    weight_D: Tensor
    shift_D: Tensor | None = None

    def after(self, first: Affine) -> Affine:
        """This map applied to what `first` gives."""
        shift_D = self.shift_D
        if first.shift_D is not None:
            moved_D = self.weight_D * first.shift_D
            shift_D = moved_D if shift_D is None else moved_D + shift_D
        return Affine(self.weight_D * first.weight_D, shift_D)

    def dense(self) -> tuple[Tensor, Tensor]:
        """Weight and shift, zeros where there is none."""
        weight_D, shift_D = self
        return weight_D, torch.zeros_like(weight_D) if shift_D is None else shift_D
