"""Which engine would serve each phase of a plan, and how each parameter's rows would go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from dpigu.dpcore import BoundPipeline, PhaseContext, Pipeline, Plan, Space, State, Transform
from dpigu.dpcore.grammar.stages import Stateful
from dpigu.trainers.engines.choice import choose, trace
from dpigu.trainers.engines.ghost import GhostEngine
from dpigu.trainers.engines.records import Loss, LossOfOne
from dpigu.trainers.engines.rows import norms_of, trainable
from torch import Tensor, nn


class Explanation(NamedTuple):
    """The engine of one phase, why, and the choice for each parameter (fast engine only).

    `declared` is what hangs on model or loss and cannot be seen into (`kept`); `adapted` is what
    was set on the model so that vmap can follow it.
    """

    phase: str
    engine: str
    reason: str
    choices: Mapping[str, str]
    declared: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()


def explain(
    plan: Plan, model: nn.Module, loss: Loss, x: Tensor, y: Tensor, seed: int, engine: str
) -> Sequence[Explanation]:
    """The engine of every phase, from shapes: on made-up records, states and support.

    Row maps are in their first state. A scheduler's support is every second coordinate.

    Args:
        x, y: inputs and targets of two made-up records.
        engine: what the settings ask for.
    """
    values = {name: p.detach() for name, p in trainable(model).items()}
    parameters = Space.of(values)
    traced = trace(LossOfOne(model.train(), loss), trainable(model), x, y)
    valid = torch.ones(len(x), dtype=torch.bool)
    found = []
    for phase in plan.phases:
        space = phase.pipeline.row_space(parameters, tuple(x.shape[1:]))
        pipeline = BoundPipeline(phase.pipeline, space)
        chosen, reason = choose(engine, traced, pipeline)
        choices: Mapping[str, str] = {}
        if chosen == "ghost":
            context = PhaseContext(space, parameters.join(values), phase.steps, seed)
            parts, (x_B, y_B) = None, (x, y)
            if phase.pipeline.views is not None:
                parts = phase.pipeline.views.count
                x_B, y_B = (v[:, None].expand(-1, parts, *v.shape[1:]) for v in (x, y))
            fast = GhostEngine(model, loss, norms_of(pipeline), len(x), parts=parts)
            fast.rows(values, x_B, y_B, valid, _made_up(phase.pipeline, context))
            choices = fast.choices()
        found.append(
            Explanation(phase.name, chosen, reason, choices, traced.declared, traced.adapted)
        )
    return found


def _made_up(pipeline: Pipeline, context: PhaseContext) -> Transform:
    space = context.space
    support_D = None if pipeline.scheduler is None else torch.arange(space.size) % 2 == 0
    maps = []
    for placed in pipeline.of("row"):
        learns = isinstance(placed.stage, Stateful)
        state: State = placed.stage.init(context, {}) if learns else {}
        maps.append((placed.stage, state))
    return Transform(space, space, tuple(maps), support_D)
