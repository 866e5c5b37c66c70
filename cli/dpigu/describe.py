"""`dpigu describe`: what a plan does and guarantees, before anything is spent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.dpigu.group import main
from dpigu.cli.shared.options import data_dir_option, json_option, plan_options
from dpigu.cli.shared.output import print_fields, print_json

if TYPE_CHECKING:
    from dpigu.dpcore import Phase, Plan, PoissonSampler, Space
    from dpigu.trainers import DataSpec, Recipe, Settings
    from torch import nn


TRAINING = (
    *("optimizer", "learning_rate", "schedule", "warmup", "momentum"),
    *("average", "average_decay", "average_share"),
)
"""The settings that say what is done with what was released."""


@main.command()
@click.argument("what", metavar="PRESET|FILE")
@plan_options
@data_dir_option
@json_option("the description")
def describe(what: str, data_dir: str | None, as_json: bool, **options: Any) -> None:
    """Describe a preset or a configuration: phases, stages, noise, what holds each guarantee.

    The options change it as they do for `dpigu train`. A preset is shown on mnist unless
    --data says otherwise.

    \b
    Examples:
      dpigu describe adadpigu --data digits --epsilon 2
      dpigu describe runs/low/public/config.toml --json
    """
    from dpigu.cli.shared.recipes import recipe_from

    if what.endswith(".toml") or Path(what).is_file():
        recipe = recipe_from(None, Path(what), options)
    else:
        recipe = recipe_from(what, None, {**options, "data": options["data"] or "mnist"})
    description = _description(recipe, Path(data_dir) if data_dir else None)
    if as_json:
        print_json(description)
    else:
        _print(description)


def _description(recipe: Recipe, data_dir: Path | None) -> dict[str, Any]:
    from dpigu.cli.shared.recipes import declared_records
    from dpigu.dpcore import Plan, Space
    from dpigu.dpcore import describe as guarantees
    from dpigu.trainers import build_model
    from dpigu.trainers.calibration import accountant_for, calibrate
    from dpigu.trainers.engines import trainable

    settings = recipe.settings
    calibrated = calibrate(recipe.plan, settings, declared_records(recipe))
    sampler, plan = calibrated.sampler, Plan(calibrated.phases, calibrated.adjacency)
    accountant = accountant_for(plan, sampler, settings)
    spec, space = _spec(recipe, data_dir), None
    shape: tuple[int, ...] = ()
    if spec is not None:
        model = build_model(recipe.model_for(spec), spec, settings.seed)
        space, shape = Space.of(trainable(model)), spec.shape
    return {
        "preset": recipe.preset,
        "data": recipe.data,
        "model": recipe.model_for(spec) if spec is not None else recipe.model,
        "coordinates": None if space is None else space.size,
        "features": recipe.features,
        "public_data": recipe.public,
        "training": {name: getattr(settings, name) for name in TRAINING},
        "private": plan.private,
        "target_epsilon": settings.epsilon,
        "delta": settings.delta,
        "accountant": accountant.name,
        "accountant_because": accountant.why,
        "adjacency": str(plan.adjacency),
        "records": sampler.records,
        "unit": None if recipe.unit is None else vars(recipe.unit),
        "rate": sampler.rate,
        "expected_batch": sampler.expected_batch,
        "steps": plan.steps,
        "epochs": plan.steps * sampler.rate,
        "phases": _phases(plan, sampler, space, shape),
        "engines": _engines(plan, model, spec, settings) if spec is not None else [],
        "guarantees": [g._asdict() for g in guarantees(plan)],
    }


def _engines(
    plan: Plan, model: nn.Module, spec: DataSpec, settings: Settings
) -> list[dict[str, Any]]:
    """Each phase's engine and, of the fast one, how each parameter's rows go."""
    import torch
    from dpigu.trainers.engines import explain

    if spec.task.loss is None:
        return []
    x = torch.zeros(2, *spec.shape)
    whole = spec.task.counts is not None and spec.task.name != "multi-label"
    y = torch.zeros(2, *spec.target, dtype=torch.int64 if whole else torch.float32)
    explained = explain(plan, model, spec.task.loss, x, y, settings.seed, settings.engine)
    return [{**e._asdict(), "choices": dict(e.choices)} for e in explained]


def _spec(recipe: Recipe, data_dir: Path | None) -> DataSpec | None:
    """The data's declared constants; those of a file are read only where a model is named."""
    from dpigu.trainers import SPECS
    from dpigu.trainers.data import feature_spec

    if recipe.data in SPECS:
        spec = SPECS[recipe.data]
    elif recipe.model is None:
        return None
    else:
        return recipe.load_data(data_dir, progress=False).spec
    return spec if recipe.features is None else feature_spec(spec, recipe.features)


def _phases(
    plan: Plan, sampler: PoissonSampler, space: Space | None, shape: tuple[int, ...]
) -> list[dict[str, Any]]:
    from dpigu.dpcore.registry import plan_to_dict

    found = []
    for phase, table in zip(plan.phases, plan_to_dict(plan)["phase"], strict=True):
        known = ("name", "steps", "inherits", "selective_update")
        stages = {k: v for k, v in table.items() if k not in known}
        found.append(
            {
                "name": phase.name,
                "steps": phase.steps,
                "inherits": list(phase.inherits),
                "noise_multiplier": phase.pipeline.noiser.noise_multiplier,
                "event": str(replace(phase, selective_update=None).event(sampler)),
                "support": _support(phase, space, shape),
                "stages": stages,
                "selective_update": _selective_update(phase, table, sampler),
            }
        )
    return found


def _selective_update(
    phase: Phase, table: dict[str, Any], sampler: PoissonSampler
) -> dict[str, Any] | None:
    """The look at every update, if there is one: its rate, event and stages."""
    if phase.selective_update is None:
        return None
    sampled = phase.selective_update.sampler(sampler)
    return {
        "rate": sampled.rate,
        "event": str(sampled.event(phase.selective_update.pipeline.event())),
        "stages": {
            k: v for k, v in table["selective_update"].items() if k not in ("rate", "share")
        },
    }


def _support(phase: Phase, space: Space | None, shape: tuple[int, ...]) -> list[int] | None:
    """How many coordinates are noised at the first and the last step, where that is known."""
    from dpigu.mechanisms.support.schedulers import kept

    if space is None:
        return None
    rows = phase.pipeline.row_space(space, shape)
    size, scheduler = phase.pipeline.check(rows).size, phase.pipeline.scheduler
    if scheduler is None:
        return [size, size]
    first = getattr(scheduler, "ratio", None)
    if first is None or size != rows.size:
        return None
    last = getattr(scheduler, "end", first) if phase.steps > 1 else first
    return [kept(first, size), kept(last, size)]


def _print(about: dict[str, Any]) -> None:
    counted = "records" if about["unit"] is None else f"units, by {about['unit']['name']}"
    size = "" if about["coordinates"] is None else f", {about['coordinates']:,} coordinates"
    fields = [
        (
            "plan",
            f"{about['preset']} on {about['data']}, {about['steps']} steps, "
            f"{about['epochs']:.4g} epochs",
        ),
        ("model", f"{about['model'] or 'by the shape of the data'}{size}"),
        *_given(about),
        ("training", _training(about["training"])),
        ("sampling", f"rate {about['rate']:.6g} of {about['records']} declared {counted}"),
    ]
    if about["private"]:
        target = "" if about["target_epsilon"] is None else f"ε ≤ {about['target_epsilon']:g} "
        claim = f"{target}at δ = {about['delta']:g}, {about['accountant'].upper()} accountant"
        fields.append(("claim", f"{claim}, {about['adjacency']} adjacency"))
        fields.append(("accounts", f"{about['accountant']}: {about['accountant_because']}"))
    else:
        fields.append(("claim", "NOT PRIVATE: no noise is drawn"))
    print_fields(fields)
    for phase in about["phases"]:
        click.echo(f"\nphase {phase['name']}: {phase['steps']} steps")
        rows = [("  noise", f"σ = {phase['noise_multiplier']:.5g}"), ("  event", phase["event"])]
        if phase["support"] is not None:
            first, last = phase["support"]
            rows.append(("  support", f"{first:,}" + (f" to {last:,}" if last != first else "")))
        rows += _lines(phase["stages"])
        if (look := phase["selective_update"]) is not None:
            rows.append(("  look", f"at every update, rate {look['rate']:.6g}, {look['event']}"))
            rows += [(f"  {slot}", line) for slot, line in _lines(look["stages"])]
        print_fields(rows)
    for engine in about["engines"]:
        click.echo(f"\nengine of phase {engine['phase']}: {engine['engine']}, {engine['reason']}")
        if engine["choices"]:
            print_fields([(f"  {name}", choice) for name, choice in engine["choices"].items()])
        if engine["adapted"]:
            click.echo("  set on the model: " + "; ".join(engine["adapted"]))
        if engine["declared"]:
            click.echo("  declared to keep nothing of a record: " + ", ".join(engine["declared"]))
    click.echo("\nguarantees")
    for guarantee in about["guarantees"]:
        click.echo(f"  {guarantee['held']:<9} {guarantee['statement']}  [{guarantee['by']}]")


def _given(about: dict[str, Any]) -> list[tuple[str, str]]:
    """The features and the public data, where there are any."""
    named = (("features", about["features"]), ("public", about["public_data"]))
    return [(label, name) for label, name in named if name is not None]


def _training(settings: dict[str, Any]) -> str:
    """What is done with what was released, in a line."""
    said = [settings["optimizer"]]
    if settings["optimizer"] == "sgd" and settings["momentum"]:
        said.append(f"momentum {settings['momentum']:g}")
    said.append(f"{settings['schedule']} learning rate {settings['learning_rate']:g}")
    if settings["warmup"]:
        said.append(f"warm-up {settings['warmup']:g} of the steps")
    if (average := settings["average"]) != "none":
        how = {"ema": "average_decay", "tail": "average_share"}[average]
        said.append(f"{average} of the weights ({how.split('_')[1]} {settings[how]:g})")
    return ", ".join(said)


def _lines(stages: dict[str, Any]) -> list[tuple[str, str]]:
    """A line for every stage: its slot, name and options."""
    found = []
    for slot, listed in stages.items():
        for stage in listed if isinstance(listed, list) else [listed]:
            options = [f"{k} = {v}" for k, v in stage.items() if k != "stage"]
            found.append((f"  {slot}", ", ".join([stage["stage"], *options])))
    return found
