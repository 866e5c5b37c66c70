"""A recipe from the command line: a preset or a configuration, with options on top."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpigu.dpcore import ConfigurationError, Plan, Unit
from dpigu.dpcore.registry import dataclass_from, options_of
from dpigu.mechanisms import PRESETS
from dpigu.trainers import SPECS, Recipe, Settings, recipe_for, recipe_from_file
from dpigu.trainers.calibration import steps_of, with_steps
from dpigu.trainers.code import names_code
from dpigu.trainers.data.sources.columns import Columns, columns_from_dict
from dpigu.trainers.recipes import assigned, clipped_at

SETTINGS = {"batch": "expected_batch"} | {
    f.name: f.name for f in dataclasses.fields(Settings) if f.name != "epochs"
}
"""Which option sets which field of `Settings`, where there is such an option; epochs set steps."""
NAMED = (
    *("records", "classes", "test", "target", "task", "common_inputs"),
    *("features", "public", "model"),
)
"""The options that are fields of a recipe as they stand."""
OF_DATA = ("records", "classes", "test", "target", "task", "columns", "unit")
"""What is declared of data: other data starts without."""


def recipe_from(
    preset: str | None,
    config: Path | None,
    options: Mapping[str, Any],
    *,
    trust_code: bool = False,
) -> Recipe:
    """The recipe of a preset or a configuration, with the options that were given on top.

    A model or data that a configuration names as code is refused without `trust_code`, or the same
    name among the options.

    Errors: `ConfigurationError` for options that contradict each other or the plan.
    """
    _refuse_declared(options)
    assignments = options["assignments"]
    settings = {
        field: options[name] for name, field in SETTINGS.items() if options.get(name) is not None
    }
    if (preset is None) == (config is None):
        raise ConfigurationError(
            "give a preset or a configuration, and not both",
            where="--preset, --config",
            expected=f"--preset {', '.join(PRESETS)}; or --config FILE",
        )
    if config is not None:
        read = recipe_from_file(config)
        if not trust_code:
            _refuse_code(config, read, options)
        recipe = _changed(read, options, settings, assignments)
    else:
        assert preset is not None
        if options["data"] is None:
            raise ConfigurationError(
                "a preset needs data",
                where="--data",
                expected=f"{', '.join(SPECS)}, a .npz, .csv or .parquet file, or module:factory",
            )
        names = ("data", "steps", "epochs", *NAMED, "clip")
        arguments = {name: options[name] for name in names if options[name] is not None}
        arguments["columns"] = _columns(options["columns"])
        arguments["unit"] = _unit(options, None)
        recipe = recipe_for(preset, **arguments, assignments=assignments, **settings)
    _refuse_claim_without_noise(recipe)
    return recipe


def declared_records(recipe: Recipe) -> int:
    """The declared number of records; an error if it is not declared."""
    records = SPECS[recipe.data].records if recipe.data in SPECS else recipe.records
    if records is None:
        raise ConfigurationError(
            "the number of records of this data set is not known, and is not read off it",
            where=recipe.data,
            remedy="Declare it with --records; it is public.",
        )
    return records


def last_noise_multiplier(plan: Plan) -> float:
    """σ of the last phase, the one that a plan is known by."""
    return plan.phases[-1].pipeline.noiser.noise_multiplier


def _changed(
    recipe: Recipe,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    assignments: Sequence[str],
) -> Recipe:
    """A configuration with options on top.

    ε and σ replace each other, as do the rate and the expected batch. Either ε or σ on top
    takes the plan's noise as a ratio between the phases, with 1 for the last.
    """
    if (data := options["data"]) is not None:
        nothing: dict[str, Any] = dict.fromkeys(OF_DATA)
        recipe = dataclasses.replace(recipe, data=data, common_inputs=False, **nothing)
    if options["columns"] is not None:
        recipe = dataclasses.replace(recipe, columns=_columns(options["columns"]))
    recipe = dataclasses.replace(recipe, unit=_unit(options, recipe.unit))
    declared = {k: options[k] for k in NAMED if options[k] is not None}
    recipe = dataclasses.replace(recipe, **declared)
    settings = options_of(recipe.settings)
    for one, other in (("rate", "expected_batch"), ("epsilon", "noise_multiplier")):
        if one in given or other in given:
            settings.pop(one, None)
            settings.pop(other, None)
    chosen: Settings = dataclass_from(Settings, {**settings, **given}, "settings")
    plan = recipe.plan
    if ("epsilon" in given or "noise_multiplier" in given) and plan.private:
        plan = plan.scaled_noise(1 / last_noise_multiplier(plan))
    steps, epochs = options["steps"], options["epochs"]
    if steps is not None or epochs is not None:
        chosen = dataclasses.replace(chosen, epochs=None)
    if steps is not None and epochs is not None:
        raise ConfigurationError("give steps or epochs, and not both", where="settings")
    if epochs is not None:
        steps = steps_of(epochs, chosen.sampler(declared_records(recipe)))
    if steps is not None:
        plan = with_steps(plan, steps)
    if options["clip"] is not None:
        plan = clipped_at(plan, options["clip"])
    return dataclasses.replace(recipe, settings=chosen, plan=assigned(plan, assignments))


def _refuse_code(config: Path, recipe: Recipe, options: Mapping[str, Any]) -> None:
    for field, what in (("model", "model"), ("data", "data"), ("public", "public data")):
        named = getattr(recipe, field)
        if named is not None and names_code(named) and options[field] is None:
            raise ConfigurationError(
                f"the {what} is code that the configuration names, and that is not run without "
                "your word",
                where=str(config),
                got=named,
                remedy="If you trust whoever wrote it: --trust-code, or "
                f"--{what.replace(' ', '-')} {named}.",
            )


def _unit(options: Mapping[str, Any], before: Unit | None) -> Unit | None:
    """The unit of privacy that the options declare, on top of a configuration's."""
    names = {"unit": "name", "per_unit": "records", "unit_rows": "reduce"}
    given = {field: options[k] for k, field in names.items() if options.get(k) is not None}
    if not given:
        return before
    chosen = {**({} if before is None else vars(before)), **given}
    if not {"name", "records"} <= chosen.keys():
        raise ConfigurationError(
            "privacy by person wants whose a record is, and how many of theirs make a row",
            where="--unit, --per-unit",
            got=", ".join(f"{field} {value}" for field, value in given.items()),
            remedy="Give both: --unit COLUMN --per-unit K.",
        )
    return Unit(**chosen)


def _columns(path: Path | None) -> Columns | None:
    """What a TOML file declares of a table's columns."""
    if path is None:
        return None
    try:
        return columns_from_dict(tomllib.loads(path.read_text()), str(path))
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot be read as TOML: {error}", where=str(path)) from error


def _refuse_declared(options: Mapping[str, Any]) -> None:
    for option in ("records", "classes"):
        if options["data"] in SPECS and options[option] is not None:
            raise ConfigurationError(
                f"the number of {option} of this data set is declared already",
                where=f"--{option}",
                got=options[option],
                expected=f"{getattr(SPECS[options['data']], option)} for {options['data']}",
                remedy="Leave the option out.",
            )


def _refuse_claim_without_noise(recipe: Recipe) -> None:
    factor = recipe.settings.noise_multiplier
    if recipe.settings.epsilon is not None and (not recipe.plan.private or factor == 0):
        raise ConfigurationError(
            "a target ε, and no noise that could keep it",
            where="--epsilon",
            got=recipe.settings.epsilon,
            remedy="Leave ε out, or take a private preset with noise.",
        )
    if factor and not recipe.plan.private:
        raise ConfigurationError(
            "a noise multiplier for a plan without noise",
            where="--noise-multiplier",
            got=factor,
            remedy="Take a private preset.",
        )
