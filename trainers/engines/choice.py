"""Which engine serves a pipeline on a model, and how many records it takes at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from dpigu.dpcore import BoundPipeline, ConfigurationError, ModelError
from dpigu.trainers.distributed import is_sharded
from dpigu.trainers.engines.capture import Capture
from dpigu.trainers.engines.ghost import GhostEngine, reason_against_pipeline
from dpigu.trainers.engines.guards import (
    Kept,
    Watch,
    no_checkpoints,
    no_rules_of_users,
    reseeded,
)
from dpigu.trainers.engines.layers import ParameterRows, Workspace
from dpigu.trainers.engines.materialising import MaterialisingEngine
from dpigu.trainers.engines.microbatch import automatic, evened
from dpigu.trainers.engines.one_by_one import OneByOneEngine
from dpigu.trainers.engines.records import (
    LossOfOne,
    MadeUp,
    Tree,
    device_of,
    each,
    first_line,
    users_errors,
)
from dpigu.trainers.engines.rows import RowEngine, WholeEngine
from dpigu.trainers.engines.sharded import WHY_NOT_WHOLE, checked_sharded, gradient_of_one
from dpigu.trainers.engines.vmap_rules.attention import adapted
from dpigu.trainers.engines.vmap_rules.recurrent import unrolled
from torch import Tensor, nn
from torch.func import grad, vmap

Engine = Literal["ghost", "materialising", "one-by-one"]
ENGINES: Mapping[Engine, type[RowEngine]] = {
    "ghost": GhostEngine,
    "materialising": MaterialisingEngine,
    "one-by-one": OneByOneEngine,
}


@dataclass(frozen=True)
class Traced:
    """What made-up records showed of a model and its loss.

    Args:
        made_up: public made-up records that the model takes.
        whole: why no rank can form rows whole, or None if it can.
        mapped: why vmap cannot map the loss of one record, or None if it can.
        fast: why the fast engine cannot, or None.
        adapted: what was set on the model so that vmap can follow it.
        declared: what hangs on the model or the loss and cannot be seen into; that nothing of a
            record is kept there is the user's word.
    """

    made_up: MadeUp
    whole: str | None = None
    mapped: str | None = None
    fast: str | None = None
    declared: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()

    def stand_in(self) -> tuple[Tree, Tree]:
        """One made-up record, 1 × …: what is computed where no record is."""
        return self.made_up(1)


class Choice(NamedTuple):
    """An engine, and why."""

    engine: Engine
    reason: str


def trace(loss: LossOfOne, weights: Mapping[str, Tensor], x: Tree, y: Tree) -> Traced:
    """Try the loss on public made-up records: alone, mapped, and by the fast engine.

    A model of `transformers` is first brought to what vmap can follow (`attention`).

    Args:
        loss: of one record; its model in training mode.
        weights: the trainable parameters.
        x, y: any records of the declared shapes and dtypes, B × …; none is looked at.

    Errors: `ModelError` if the model or the loss cannot take a record alone or keeps something
    of it, if a trainable parameter gets no gradient, and for checkpointed parts.
    """
    changes = adapted(loss.model)
    made_up = MadeUp.fitting(loss, weights, x, y)
    with reseeded(device_of(x), seed=0):
        watch = Watch(loss.model, loss.loss, values=True)
        with users_errors(loss.model, "on a made-up record"), no_checkpoints():
            watch.begin(made_up)
            _check_alone(loss, weights, *made_up(1))
            watch.check()
        whole = WHY_NOT_WHOLE if is_sharded(loss.model) else None
        if whole is not None:
            checked_sharded(loss, weights, list(weights), *made_up(1))
        mapped = None if whole else _why_not_mapped(loss, weights, *made_up(2))
        fast = _why_not_fast(loss, weights, *made_up(2)) if mapped is None else mapped
    return Traced(made_up, whole, mapped, fast, Kept.of(loss.model, loss.loss).declared, changes)


def _check_alone(loss: LossOfOne, weights: Mapping[str, Tensor], x_1: Tree, y_1: Tree) -> None:
    """An error that names the trainable parameters that a record's loss does not reach."""
    ((x,), (y,)) = ([*each(x_1)], [*each(y_1)])
    find = gradient_of_one if is_sharded(loss.model) else _gradient
    if silent := [name for name, g in find(loss, weights, x, y).items() if g is None]:
        raise ModelError(
            "trainable parameters get no gradient from a record's loss",
            where=type(loss.model).__name__,
            got=silent,
            remedy="Use them in forward, or call requires_grad_(False) on them.",
        )


def _gradient(
    loss: LossOfOne, weights: Mapping[str, Tensor], x: Tree, y: Tree
) -> Mapping[str, Tensor | None]:
    """A record's gradient; None for a parameter that its loss does not reach."""
    free = {name: w.detach().requires_grad_() for name, w in weights.items()}
    with torch.enable_grad():
        total = loss(free, x, y)
    if not total.requires_grad:
        return dict.fromkeys(free)
    gradients = torch.autograd.grad(total, list(free.values()), allow_unused=True)
    return dict(zip(free, gradients, strict=True))


def _why_not_mapped(
    loss: LossOfOne, weights: Mapping[str, Tensor], x_B: Tree, y_B: Tree
) -> str | None:
    mapped = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
    try:
        with no_rules_of_users(), unrolled(loss.model):
            mapped({name: w.detach() for name, w in weights.items()}, x_B, y_B)
    except ModelError:
        raise
    except Exception as error:  # whatever torch or a user's code raises
        return f"vmap cannot map the model: {first_line(error)}"
    return None


def _why_not_fast(
    loss: LossOfOne, weights: Mapping[str, Tensor], x_B: Tree, y_B: Tree
) -> str | None:
    capture = Capture.of(loss, list(weights), ())
    try:
        capture.collect(weights, x_B, y_B, Workspace(), list(weights), finish=_nothing)
    except ModelError as error:
        return f"its layers cannot be taken apart: {error}"
    except Exception as error:  # whatever torch or a user's code raises
        return f"its layers cannot be taken apart: {first_line(error)}"
    return None


def _nothing(name: str, rows: ParameterRows) -> None:
    """Nothing is made of a made-up record's rows."""


def choose(wanted: str, traced: Traced, pipeline: BoundPipeline) -> Choice:
    """The engine that the settings ask for; `auto` takes the fastest one that applies.

    Errors: `ConfigurationError` for an engine that does not apply.
    """
    reasons: dict[Engine, str | None] = {
        "ghost": reason_against_pipeline(pipeline) or traced.fast,
        "materialising": traced.whole or traced.mapped,
        "one-by-one": traced.whole,
    }
    if wanted == "auto":
        engine = next(name for name, reason in reasons.items() if reason is None)
        why = "every row map is diagonal and affine" if engine == "ghost" else ""
        before: dict[Engine, Engine] = {"materialising": "ghost", "one-by-one": "materialising"}
        return Choice(engine, why or str(reasons[before[engine]]))
    for name, reason in reasons.items():
        if name == wanted and reason is None:
            return Choice(name, "the settings ask for it")
        if name == wanted:
            raise ConfigurationError(
                f"this engine does not apply: {reason}",
                where="settings.engine",
                got=wanted,
                expected=", ".join(["auto", *(n for n, r in reasons.items() if r is None)]),
            )
    raise ConfigurationError(
        "unknown engine", where="settings.engine", got=wanted, expected=("auto", *reasons)
    )


def choose_whole(wanted: str, traced: Traced) -> type[WholeEngine]:
    """The engine that forms rows whole."""
    alone = wanted == "one-by-one" or traced.mapped is not None
    return OneByOneEngine if alone else MaterialisingEngine


def microbatch_of(
    engine: Engine,
    model: nn.Module,
    traced: Traced,
    physical_batch: int | Literal["auto"],
    pipeline: BoundPipeline,
    expected_batch: float,
    parts: int | None = None,
) -> int:
    """Rows in a microbatch: as set, or from public shapes and the engine's budget."""
    records = physical_batch
    if records == "auto":
        x_1, _ = traced.stand_in()
        most = automatic(model, x_1, pipeline.space.size, fast=engine == "ghost")
        most = max(1, most // (parts or 1))
        records = evened(most, expected_batch)
    return min(records, math.ceil(expected_batch))
