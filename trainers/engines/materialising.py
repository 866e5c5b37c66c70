"""The engine that forms every row whole, by vmap of grad."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from dpigu.dpcore import Record, Space, Transform
from dpigu.trainers.engines.guards import no_rules_of_users
from dpigu.trainers.engines.records import Loss, Tree, count_of, device_of, users_errors
from dpigu.trainers.engines.rows import Norms, PaddedRows, WholeEngine, trainable
from dpigu.trainers.engines.vmap_rules.recurrent import unrolled
from torch import Tensor, nn
from torch.func import grad, vmap


class MaterialisingEngine(WholeEngine):
    """Every record's gradient as a row of a B × D matrix, by vmap of grad.

    It serves any model that torch.func can trace and any row map; memory is B · D. A transform
    with a statistic has its rows in place of the gradients.
    """

    def rows(
        self,
        weights: Mapping[str, Tensor],
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> PaddedRows:
        def loss_of_one(values: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
            if self.parts is None:
                return self._loss_of_one(values, x, y)
            of_parts = vmap(self._loss_of_one, in_dims=(None, 0, 0), randomness="different")
            mean: Tensor = of_parts(values, x, y).mean()
            return mean

        row_of_one = rower(loss_of_one, self._loss_of_one.outputs, self._space, transform)
        one = vmap(row_of_one, in_dims=(None, 0, 0), randomness="different")
        self._watch.begin(transform)
        with users_errors(self.model, "on records"), no_rules_of_users(), unrolled(self.model):
            g_BD = one(dict(weights), x_B, y_B)
        self._watch.check()
        return self._padded(transform(g_BD), valid_B)


def rower(
    loss_of_one: Callable[[Mapping[str, Tensor], Tree, Tree], Tensor],
    outputs_of_one: Callable[[Mapping[str, Tensor], Tree], Tensor],
    space: Space,
    transform: Transform,
    gradient: Callable[..., Any] = grad,
) -> Callable[[Mapping[str, Tensor], Tree, Tree], Tensor]:
    """From weights and one record to its row before the transform: gradient or statistic."""

    def gradient_of_one(values: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
        return space.join(gradient(loss_of_one)(values, x, y))

    def row_of_one(values: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
        if transform.statistic is None:
            return gradient_of_one(values, x, y)

        def loss(at_D: Tensor | None) -> Tensor:
            return loss_of_one(values if at_D is None else space.split(at_D), x, y)

        statistic, state = transform.statistic
        record = Record(
            x,
            y,
            loss,
            lambda: gradient_of_one(values, x, y),
            lambda: outputs_of_one(values, x).squeeze(0),
            lambda: space.join(values),
        )
        return statistic.row_of(state, record)

    return row_of_one


def row_gradients(
    model: nn.Module,
    loss: Loss,
    weights: Mapping[str, Tensor],
    x_M: Tree,
    y_M: Tree,
    engine: type[WholeEngine] = MaterialisingEngine,
) -> Tensor:
    """Every record's gradient, M × D, by an engine that forms rows whole: for public records."""
    made, space = engine(model, loss, Norms(None, 1), count_of(x_M)), Space.of(trainable(model))
    valid_M = torch.ones(count_of(x_M), dtype=torch.bool, device=device_of(x_M))
    return made.rows(weights, x_M, y_M, valid_M, Transform(space, space, (), None)).rows.z_BK
