"""Engines: from a model and a microbatch to rows; and the one that forms every row whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from dpigu.dpcore import BoundPipeline, DenseRows, Record, Rows, Space, Transform
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.trainers.engines.kept import Watch
from dpigu.trainers.engines.records import Loss, LossOfOne, Tree, count_of, device_of, users_errors
from dpigu.trainers.engines.recurrent import unrolled
from dpigu.trainers.engines.rules import no_rules_of_users
from torch import Tensor, nn
from torch.func import grad, vmap


class RowEngine(Protocol):
    """Makes the rows of a microbatch; see `dpcore.Rows` for what a row must answer.

    Inputs and targets are trees of tensors, B × … each.
    """

    @property
    def relative_error(self) -> float:
        """How far a sum may be from the exact one: a public constant (`dpcore.Engine`)."""
        ...

    def rows(
        self,
        weights: Mapping[str, Tensor],
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> Rows:
        """The rows of one microbatch at these weights; records not valid are padding."""
        ...


class WholeEngine(RowEngine, Protocol):
    """An engine whose rows stand in memory."""

    def rows(
        self,
        weights: Mapping[str, Tensor],
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> PaddedRows:
        """The same, in memory."""
        ...


MakeWhole = Callable[[nn.Module, Loss, "Norms", int], WholeEngine]


def norms_of(binding: BoundPipeline) -> Norms:
    """The clipper's groups in the space of the rows."""
    return Norms(*binding.groups)


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


class MaterialisingEngine:
    """Every record's gradient as a row of a B × D matrix, by vmap of grad.

    It serves any model that torch.func can trace and any row map; memory is B · D.

    Args:
        model: maps a batch of one to outputs.
        loss: outputs and targets of a batch of one to one number.
        norms: the clipper's groups.
        physical_batch: the largest microbatch that `rows` will see.
        autocast: the dtype of forward and backward, or None for the weights' own. Norms and
            sums are in float64 either way.
        views: how many views of every record a batch holds (B × views × …), whose losses are
            averaged; None for a batch of records as they are (B × …).

    A transform with a statistic has its rows in place of the gradients.
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
        self._watch = Watch(model, loss, values=False)
        self._norms = norms
        self._views = views
        self.relative_error = physical_batch * UNIT_ROUNDOFF
        self._space = Space.of(trainable(model))

    def rows(
        self,
        weights: Mapping[str, Tensor],
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> PaddedRows:
        def loss_of_one(values: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
            if self._views is None:
                return self._loss(values, x, y)
            of_views = vmap(self._loss, in_dims=(None, 0, None), randomness="different")
            mean: Tensor = of_views(values, x, y).mean()
            return mean

        row_of_one = rower(loss_of_one, self._loss.outputs, self._space, transform)
        one = vmap(row_of_one, in_dims=(None, 0, 0), randomness="different")
        self._watch.begin(transform)
        model = self._loss.model
        with users_errors(model, "on records"), no_rules_of_users(), unrolled(model):
            g_BD = one(dict(weights), x_B, y_B)
        self._watch.check()
        dense = DenseRows(transform(g_BD), self._norms.groups_K, self._norms.count)
        return PaddedRows(dense, valid_B)


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
        )
        return statistic.row_of(state, record)

    return row_of_one


def row_gradients(
    model: nn.Module,
    loss: Loss,
    weights: Mapping[str, Tensor],
    x_M: Tree,
    y_M: Tree,
    engine: MakeWhole = MaterialisingEngine,
) -> Tensor:
    """Every record's gradient, M × D, by an engine that forms rows whole: for public records."""
    made, space = engine(model, loss, Norms(None, 1), count_of(x_M)), Space.of(trainable(model))
    valid_M = torch.ones(count_of(x_M), dtype=torch.bool, device=device_of(x_M))
    return made.rows(weights, x_M, y_M, valid_M, Transform(space, space, (), None)).rows.z_BK
