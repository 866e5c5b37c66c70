"""From a model and a microbatch to rows: what an engine does, and what all engines share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from dpigu.dpcore import BoundPipeline, DenseRows, Rows, Space, Transform
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.trainers.engines.guards import Watch
from dpigu.trainers.engines.records import Loss, LossOfOne, Tree
from torch import Tensor, nn


def norms_of(pipeline: BoundPipeline) -> Norms:
    """The clipper's groups in the space of the rows."""
    return Norms(*pipeline.groups)


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that get a gradient, by name; a parameter used twice appears once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class Norms:
    """How norms are grouped for the clipper: the group of each coordinate, or None for one."""

    groups_K: Tensor | None
    count: int


@dataclass(frozen=True)
class PaddedRows:
    """Rows of a padded microbatch: padding has norm inf, so the kernel gives it weight zero."""

    rows: DenseRows
    valid_B: Tensor

    def norm_upper_bounds(self) -> Tensor:
        return torch.where(self.valid_B[:, None], self.rows.norm_upper_bounds(), torch.inf)

    def weighted_sum(self, factors_BG: Tensor) -> Tensor:
        return self.rows.weighted_sum(factors_BG)


@dataclass(eq=False)
class RowEngine(ABC):
    """Makes the rows of a microbatch; see `dpcore.Rows` for what a row must answer.

    Args:
        model: maps a batch of one to outputs.
        loss: outputs and targets of a batch of one to one number.
        norms: the clipper's groups.
        physical_batch: the largest microbatch that `rows` will see.
        autocast: the dtype of forward and backward, or None for the weights' own. Rows are
            in float32 or wider, norms and sums in float64 either way.
        parts: how many parts every row has, inputs and targets (B × parts × …), whose losses
            are averaged: views of a record, or records of a unit; None for records as they are
            (B × …).
    """

    model: nn.Module
    loss: Loss
    norms: Norms
    physical_batch: int
    autocast: torch.dtype | None = None
    parts: int | None = None
    watches_values: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._loss_of_one = LossOfOne(self.model, self.loss, self.autocast)
        self._watch = Watch(self.model, self.loss, values=self.watches_values)
        self._space = Space.of(trainable(self.model))

    @property
    @abstractmethod
    def relative_error(self) -> float:
        """How far a sum may be from the exact one: a public constant (`dpcore.Engine`)."""

    @abstractmethod
    def rows(
        self,
        weights: Mapping[str, Tensor],
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> Rows:
        """The rows of one microbatch at these weights, from trees of tensors B × …; records not
        valid are padding."""


class WholeEngine(RowEngine):
    """An engine whose rows stand in memory."""

    @property
    def relative_error(self) -> float:
        return self.physical_batch * UNIT_ROUNDOFF

    @abstractmethod
    def rows(
        self,
        weights: Mapping[str, Tensor],
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> PaddedRows: ...

    def _padded(self, z_BK: Tensor, valid_B: Tensor) -> PaddedRows:
        return PaddedRows(DenseRows(z_BK, self.norms.groups_K, self.norms.count), valid_B)
