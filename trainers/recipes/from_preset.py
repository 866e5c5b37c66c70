"""The recipe of a preset on a data set, with the defaults measured for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dpigu.dpcore import ConfigurationError
from dpigu.dpcore.errors import did_you_mean
from dpigu.dpcore.registry import dataclass_from
from dpigu.dpcore.unit import Unit
from dpigu.mechanisms import PRESETS
from dpigu.trainers.calibration import steps_of
from dpigu.trainers.data import SPECS
from dpigu.trainers.data.sources.columns import Columns
from dpigu.trainers.recipes.assignments import assigned, clipped_at
from dpigu.trainers.recipes.defaults import defaults_for, steps_by_size
from dpigu.trainers.recipes.recipe import Recipe
from dpigu.trainers.settings import Settings


def recipe_for(
    preset: str,
    data: str,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    records: int | None = None,
    classes: int | None = None,
    test: str | None = None,
    target: str | None = None,
    task: str | None = None,
    columns: Columns | None = None,
    unit: Unit | None = None,
    common_inputs: bool = False,
    features: str | None = None,
    public: str | None = None,
    model: str | None = None,
    clip: float | None = None,
    assignments: Sequence[str] = (),
    **settings: Any,
) -> Recipe:
    """A preset on a data set, with the defaults measured for both, and any of them changed.

    Args:
        preset: a name in `mechanisms.PRESETS`.
        data: a data set's name, the path of a file, or module:factory.
        steps: steps of all phases together; or
        epochs: steps × expected batch / declared records.
        clip: the clipping norm of the phases that train.
        assignments: `stage.option=value` or `phase.stage.option=value`, applied to the plan.
        settings: fields of `Settings`.
    """
    if preset not in PRESETS:
        raise ConfigurationError(
            "there is no preset of that name",
            where="preset",
            got=preset,
            expected=", ".join(PRESETS),
            remedy=did_you_mean(preset, PRESETS),
        )
    declared = SPECS[data].records if data in SPECS else records
    if declared is None:
        raise ConfigurationError(
            "the number of records of this data set is not known, and is not read off it",
            where=data,
            remedy="Declare `records`; the number is public.",
        )
    training = dict(PRESETS[preset].training)
    names = {key: training.pop(key, None) for key in ("features", "model", "public")}
    defaults, default_steps, default_clip = defaults_for(preset, data, declared, training)
    if "rate" in settings:
        defaults.pop("expected_batch", None)
    if "noise_multiplier" in settings or preset == "non-private":
        defaults.pop("epsilon", None)
    chosen = dataclass_from(Settings, {**defaults, **settings}, "settings")
    if steps is not None and epochs is not None:
        raise ConfigurationError("give steps or epochs, and not both", where="settings")
    sampler = chosen.sampler(declared)
    if epochs is not None:
        steps = steps_of(epochs, sampler)
    elif steps is None:
        steps = default_steps if default_steps is not None else steps_by_size(sampler.rate)
    plan = PRESETS[preset].plan(steps)
    if clip is not None or plan.private:
        plan = clipped_at(plan, clip if clip is not None else default_clip)
    return Recipe(
        preset=preset,
        data=data,
        records=records,
        classes=classes,
        test=test,
        target=target,
        task=task,
        columns=columns,
        unit=unit,
        common_inputs=common_inputs,
        features=features if features is not None else names["features"],
        public=public if public is not None else names["public"],
        model=model if model is not None else names["model"],
        settings=chosen,
        plan=assigned(plan, assignments),
    )
