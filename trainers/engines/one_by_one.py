"""Rows of one record at a time, for models that vmap cannot trace: slow and right.

A model that packs sequences, asks a tensor for its value or branches on it runs here as it is
written, on a batch of one, by plain autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from dpigu.dpcore import DenseRows, ModelError, Space, Transform
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.trainers.engines.kept import Watch
from dpigu.trainers.engines.materialising import Norms, PaddedRows, rower, trainable
from dpigu.trainers.engines.randomness import reseeded
from dpigu.trainers.engines.records import Loss, LossOfOne, Tree, device_of, each, users_errors
from dpigu.trainers.engines.rules import no_checkpoints
from torch import Tensor, nn

Weights = Mapping[str, Tensor]
RowOfOne = Callable[[Weights, Tree, Tree], Tensor]


class OneByOneEngine:
    """Every record's row by a forward and a backward of its own; memory is B · D.

    The generators of random numbers are keyed afresh for every record, so that how much one
    record draws leaves the others' draws alone.

    Args:
        model: maps a batch of one to outputs.
        loss: outputs and targets of a batch of one to one number.
        norms: the clipper's groups.
        physical_batch: the largest microbatch that `rows` will see.
        autocast: the dtype of forward and backward, or None for the weights' own.
        views: how many views of every record a batch holds (B × views × …), whose losses are
            averaged; None for a batch of records as they are (B × …).

    Errors: `ModelError` for a record on which the model or the loss raises, and for a model
    that keeps something of a record.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        norms: Norms,
        physical_batch: int,
        autocast: torch.dtype | None = None,
        views: int | None = None,
    ) -> None:
        self._loss = LossOfOne(model, loss, autocast)
        self._norms = norms
        self._views = views
        self._space = Space.of(trainable(model))
        self._watch = Watch(model, loss, values=True)
        self.relative_error = physical_batch * UNIT_ROUNDOFF

    def rows(
        self,
        weights: Weights,
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> PaddedRows:
        row_of_one = rower(
            self._mean_over_views, self._loss.outputs, self._space, transform, _gradient
        )
        found: list[Tensor | None] = []
        for x, y, valid in zip(each(x_B), each(y_B), valid_B.tolist(), strict=True):
            self._watch.begin(transform)
            try:
                with users_errors(self._loss.model, "on a record"), no_checkpoints():
                    found.append(self._row(row_of_one, weights, x, y))
            except ModelError:
                if valid:
                    raise
                found.append(None)
            self._watch.check()
        size = next((len(row) for row in found if row is not None), transform.space.size)
        nothing = torch.zeros(size, device=valid_B.device)
        g_BK = torch.stack([nothing if row is None else row for row in found])
        dense = DenseRows(transform(g_BK), self._norms.groups_K, self._norms.count)
        return PaddedRows(dense, valid_B)

    def _row(self, row_of_one: RowOfOne, weights: Weights, x: Tree, y: Tree) -> Tensor:
        with reseeded(device_of(x)):
            return row_of_one(weights, x, y).detach()

    def _mean_over_views(self, values: Weights, x: Tree, y: Tree) -> Tensor:
        if self._views is None:
            return self._loss(values, x, y)
        return torch.stack([self._loss(values, view, y) for view in each(x)]).mean()


def _gradient(
    loss: RowOfOne,
) -> Callable[[Weights, Tree, Tree], dict[str, Tensor]]:
    """The gradient by plain autograd: 0 for what this record's loss does not depend on."""

    def of(values: Weights, x: Tree, y: Tree) -> dict[str, Tensor]:
        free = {name: v.detach().requires_grad_() for name, v in values.items()}
        with torch.enable_grad():
            total = loss(free, x, y)
        if not total.requires_grad:
            return {name: torch.zeros_like(v) for name, v in values.items()}
        gradients = torch.autograd.grad(total, list(free.values()), allow_unused=True)
        return {
            name: torch.zeros_like(v) if g is None else g
            for (name, v), g in zip(free.items(), gradients, strict=True)
        }

    return of
