"""A small run to replay: a recipe's plan, settings and model on a few made-up records."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch
from dpigu.audits.replay.audit import Training
from dpigu.dpcore import PrivacyError
from dpigu.trainers import SPECS, Data, DataSpec, Recipe, Run, Scaling, Tensors, build_model, train
from dpigu.trainers.data.features.procedural import procedural
from dpigu.trainers.data.features.registry import feature_spec

RECORDS, CLASSES, HELD_OUT = 12, 3, 6
RATE = 0.85
STEPS = 3
SHAPE = (1, 8, 8)
FEATURES = (27, 3, 3)
"""The shape of a record where the recipe has a feature map, which is public and not replayed."""
LOUD = 30.0
"""How much larger the last record is: its row is then clipped."""


def made_up_training(
    recipe: Recipe, *, shape: tuple[int, ...] | None = None, steps: int = STEPS
) -> tuple[Training, Data]:
    """What trains a recipe on made-up records, and those records, for `audit_replay`.

    Every phase takes a few steps at a rate of 0.85 with a noise multiplier of 1, under the RDP
    accountant: what a replay looks at depends on none of these. Where records take turns, it is
    the rate of a turn.

    Args:
        recipe: of a private plan.
        shape: of a record; 1 × 8 × 8, or where the recipe has a feature map 27 × 3 × 3 features,
            in one vector if those of the map are.
        steps: of every phase.

    Raises: PrivacyError for a plan that claims nothing.
    """
    if not recipe.plan.private:
        raise PrivacyError(
            "this plan draws no noise and claims nothing: there is nothing to contradict",
            where="replay",
            remedy="Replay a private plan.",
        )
    if shape is None:
        shape = SHAPE if recipe.features is None else _features(recipe.features)
    phases = tuple(dataclasses.replace(phase, steps=steps) for phase in recipe.plan.phases)
    plan = dataclasses.replace(recipe.plan, phases=phases)
    settings = dataclasses.replace(
        recipe.settings,
        epsilon=None,
        noise_multiplier=1.0,
        accountant="rdp",
        expected_batch=None,
        rate=RATE / max(phase.pipeline.bands for phase in recipe.plan.phases),
        epochs=None,
        learning_rate=min(recipe.settings.learning_rate, 0.05),
        evaluations=2,
        physical_batch=4,
        device="cpu",
        diagnostics=False,
    )
    data = _made_up(shape)
    public = None if recipe.public is None else procedural(data.spec)
    name = recipe.model_for(data.spec)
    labels = recipe.labels(data.spec)

    def training(data: Data, out: Path) -> Run:
        model = build_model(name, data.spec, settings.seed)
        return train(
            plan,
            data,
            model,
            settings,
            out=out,
            labels=labels,
            public=public,
            progress=False,
        )

    return training, data


def _features(name: str) -> tuple[int, ...]:
    whole = feature_spec(SPECS["mnist"], name).shape
    return FEATURES if len(whole) == len(FEATURES) else (math.prod(FEATURES),)


def _made_up(shape: tuple[int, ...]) -> Data:
    """Records of noise around a pattern of each class; the last one far out."""
    draw = torch.Generator().manual_seed(0)
    count = RECORDS + HELD_OUT
    y = torch.arange(count) % CLASSES
    pattern = torch.randn((CLASSES, *shape), generator=draw)
    x = pattern[y] + 0.5 * torch.randn((count, *shape), generator=draw)
    x[RECORDS - 1] *= LOUD
    spec = DataSpec("made-up", RECORDS, CLASSES, shape, Scaling())
    return Data(spec, Tensors(x[:RECORDS], y[:RECORDS]), Tensors(x[RECORDS:], y[RECORDS:]))
