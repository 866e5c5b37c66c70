"""The recipe in a TOML file: one that a user wrote, or a run's own."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpigu.dpcore import CalibratedPlan, ConfigurationError, Plan
from dpigu.dpcore.registry import dataclass_from, plan_from_dict, refuse_unknown, typed
from dpigu.dpcore.unit import Unit
from dpigu.trainers.data.sources.columns import columns_from_dict
from dpigu.trainers.recipes.recipe import Recipe
from dpigu.trainers.settings import Settings


def recipe_from_file(path: Path) -> Recipe:
    """The recipe in a TOML file, such as the `config.toml` of a run, which knows its files."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot be read as TOML: {error}", where=str(path)) from error
    return recipe_from_dict(table, str(path)).located(path.parent.parent / "private")


def recipe_from_dict(table: Mapping[str, Any], where: str) -> Recipe:
    """The recipe in a table, such as `dpigu.trainers.runs.report.configuration` makes.

    A run's table has a calibrated plan. Its σ are the recipe's ratios, and the factor is 1.
    """
    known = ("format", "preset", "data", "model", "loss", "metrics", "optimizer", "settings")
    later = ("plan", "calibrated", "budget", "lineage", "loop", "tuned", "weights")
    refuse_unknown(table, (*known, *later), where)
    for key in ("data", "settings"):
        if key not in table:
            raise ConfigurationError(f"the table {key!r} is missing", where=where)
    if ("plan" in table) == ("calibrated" in table):
        raise ConfigurationError("give the table 'plan'", where=where)
    settings = dataclass_from(Settings, table["settings"], f"{where}: settings")
    if "calibrated" in table:
        calibrated = CalibratedPlan.from_dict(table["calibrated"], f"{where}: calibrated")
        plan = Plan(calibrated.phases, calibrated.adjacency)
        if plan.private:
            settings = dataclasses.replace(settings, noise_multiplier=1.0)
    else:
        plan = plan_from_dict(table["plan"], f"{where}: plan")
    data = table["data"]
    named = ("name", "records", "classes", "test", "target", "task", "columns", "unit")
    seen = ("shape", "scaling", "targets", "weight_bound", "features", "public", "common_inputs")
    refuse_unknown(data, (*named, *seen), f"{where}: data")
    name = typed(data.get("name"), str, f"{where}: data.name")
    model = table.get("model", {})
    refuse_unknown(model, ("name", "structure"), f"{where}: model")
    return Recipe(
        preset=typed(table.get("preset", "custom"), str, f"{where}: preset"),
        data=name,
        records=typed(data.get("records"), int | None, f"{where}: data.records"),
        classes=typed(data.get("classes"), int | None, f"{where}: data.classes"),
        test=typed(data.get("test"), str | None, f"{where}: data.test"),
        target=typed(data.get("target"), str | None, f"{where}: data.target"),
        task=typed(data.get("task"), str | None, f"{where}: data.task"),
        columns=columns_from_dict(data["columns"], where) if "columns" in data else None,
        unit=dataclass_from(Unit, data["unit"], f"{where}: data.unit") if "unit" in data else None,
        common_inputs=typed(data.get("common_inputs", False), bool, f"{where}: data.common_inputs"),
        features=typed(data.get("features"), str | None, f"{where}: data.features"),
        public=typed(data.get("public"), str | None, f"{where}: data.public"),
        model=typed(model.get("name"), str | None, f"{where}: model.name"),
        settings=settings,
        plan=plan,
    )
