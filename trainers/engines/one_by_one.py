"""Rows of one record at a time, for models that vmap cannot trace: slow and right.

A model that packs sequences, asks a tensor for its value or branches on it runs here as it is
written, on a batch of one, by plain autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from dpigu.dpcore import ModelError, Transform
from dpigu.trainers.engines.guards import no_checkpoints, reseeded
from dpigu.trainers.engines.materialising import rower
from dpigu.trainers.engines.records import Tree, device_of, each, users_errors
from dpigu.trainers.engines.rows import PaddedRows, WholeEngine
from torch import Tensor

Weights = Mapping[str, Tensor]
RowOfOne = Callable[[Weights, Tree, Tree], Tensor]


class OneByOneEngine(WholeEngine):
    """Every record's row by a forward and a backward of its own; memory is B · D.

    The generators of random numbers are keyed afresh for every record, so that how much one
    record draws leaves the others' draws alone.

    Errors: `ModelError` for a record on which the model or the loss raises, and for a model
    that keeps something of a record.
    """

    watches_values = True

    def rows(
        self,
        weights: Weights,
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> PaddedRows:
        row_of_one = rower(
            self._mean_over_parts, self._loss_of_one.outputs, self._space, transform, _gradient
        )
        found: list[Tensor | None] = []
        for x, y, valid in zip(each(x_B), each(y_B), valid_B.tolist(), strict=True):
            self._watch.begin(transform)
            try:
                with users_errors(self.model, "on a record"), no_checkpoints():
                    found.append(self._row(row_of_one, weights, x, y))
            except ModelError:
                if valid:
                    raise
                found.append(None)
            self._watch.check()
        size = next((len(row) for row in found if row is not None), transform.space.size)
        nothing = torch.zeros(size, device=valid_B.device)
        g_BK = torch.stack([nothing if row is None else row for row in found])
        return self._padded(transform(g_BK), valid_B)

    def _row(self, row_of_one: RowOfOne, weights: Weights, x: Tree, y: Tree) -> Tensor:
        with reseeded(device_of(x)):
            return row_of_one(weights, x, y).detach()

    def _mean_over_parts(self, values: Weights, x: Tree, y: Tree) -> Tensor:
        if self.parts is None:
            return self._loss_of_one(values, x, y)
        parts = zip(each(x), each(y), strict=True)
        return torch.stack([self._loss_of_one(values, *part) for part in parts]).mean()


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
