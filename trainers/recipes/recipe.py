"""A recipe: a plan, data, a model and settings, by name; what a command or a TOML file says."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpigu.dpcore import CalibratedPlan, ConfigurationError, DataError, Plan, RunError
from dpigu.dpcore.errors import did_you_mean
from dpigu.dpcore.registry import (
    dataclass_from,
    plan_from_dict,
    refuse_unknown,
    typed,
)
from dpigu.dpcore.unit import Unit
from dpigu.mechanisms import PRESETS
from dpigu.trainers.calibration import steps_of
from dpigu.trainers.data import (
    PROCEDURAL,
    SPECS,
    Data,
    DataSpec,
    feature_map,
    load_data,
    load_public,
    with_features,
)
from dpigu.trainers.data.features.procedural import procedural
from dpigu.trainers.data.sources.tables import (
    FILES,
    Columns,
    columns_from_dict,
    columns_to_dict,
)
from dpigu.trainers.models import default_model
from dpigu.trainers.recipes.assignments import assigned, clipped_at
from dpigu.trainers.recipes.defaults import defaults_for, steps_by_size
from dpigu.trainers.settings import Settings

PATHS = ("data", "test", "public")
"""The fields that may name a file."""
LOCATIONS = "files.json"
"""Where the files of a run lie, in its private folder."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run is, by name, before any record is read.

    Args:
        preset: where the plan came from.
        data: a data set's name, the path of a file, or module:factory; see `load_data`.
        records: declared number of records, for a data set that we do not know.
        classes: declared number of classes, likewise.
        test: the file of the held-out split, where it is another one.
        target: the column or array of the targets.
        task: the task's name, where targets fit more than one.
        columns: what is declared of a table's columns.
        unit: the unit of privacy, where it is not one record.
        common_inputs: the owner's word that equal inputs are of different people.
        features: the name of a map that stands before the model, as `dpigu.trainers.data.FEATURES`
            has it.
        public: a data set's name, an `.npz` path or `procedural` (made-up records), for the stages
            that learn from public records.
        model: a model's name or module:factory; None takes the features' or the data set's own.
        settings: budget, sampling, optimizer, engine.
        plan: the phases.
    """

    preset: str
    data: str
    records: int | None = None
    classes: int | None = None
    test: str | None = None
    target: str | None = None
    task: str | None = None
    columns: Columns | None = None
    unit: Unit | None = None
    common_inputs: bool = False
    features: str | None = None
    public: str | None = None
    model: str | None = None
    settings: Settings
    plan: Plan

    def model_for(self, spec: DataSpec) -> str:
        """The model's name."""
        if self.model is not None:
            return self.model
        return default_model(spec) if self.features is None else feature_map(self.features).model

    def labels(self, spec: DataSpec) -> dict[str, Any]:
        """What the run's configuration and summary carry beside what they see for themselves.

        Files go by their names there; where they lie is in `files`, which the run keeps private.
        """
        files = {name: getattr(self, name) for name in PATHS if is_file(getattr(self, name))}
        chosen = {
            "preset": self.preset,
            "data": self.data,
            "model": self.model_for(spec),
            "features": self.features,
            "public": self.public,
            "test": self.test,
            "target": self.target,
            "columns": None if self.columns is None else columns_to_dict(self.columns),
            **{name: Path(path).name for name, path in files.items()},
            "files": {n: str(Path(path).expanduser().resolve()) for n, path in files.items()},
        }
        return {name: value for name, value in chosen.items() if value is not None}

    def located(self, private: Path) -> Recipe:
        """The recipe with its files where a run's private folder says that they lie.

        Errors: `RunError` if that cannot be read.
        """
        path = private / LOCATIONS
        if not path.is_file():
            return self
        try:
            told = json.loads(path.read_text())
            known = {n: told[n] for n in PATHS if Path(told.get(n, "")).name == getattr(self, n)}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise RunError("where the data lies cannot be read", where=str(path)) from error
        return dataclasses.replace(self, **known)

    def load_data(self, data_dir: Path | None = None, *, progress: bool = True) -> Data:
        """The records as the model is given them: scaled, and through the features, if any."""
        data = load_data(
            self.data,
            data_dir,
            self.records,
            self.classes,
            test=self.test,
            target=self.target,
            task=self.task,
            columns=self.columns,
            unit=self.unit,
            common_inputs=self.common_inputs,
        )
        if self.features is None:
            return data
        return with_features(data, self.features, progress=progress)

    def load_public(
        self, spec: DataSpec, data_dir: Path | None = None, *, progress: bool = True
    ) -> Data | None:
        """The public records, if any, as the model is given them.

        Args:
            spec: of the private data as loaded; the public records must have its shape.
        """
        if self.public is None:
            return None
        if self.public == PROCEDURAL:
            return procedural(spec)
        if _same_records(self.public, self.data):
            raise ConfigurationError(
                "the private records cannot be the public ones too: nothing would protect them",
                where=f"public data {self.public}",
                got="the data set that the run trains on",
                expected=f"another data set, another .npz file, or {PROCEDURAL}",
            )
        if self.public.endswith(".npz"):
            data = load_public(Path(self.public).expanduser(), spec)
        elif self.public not in SPECS:
            raise ConfigurationError(
                "there is no public data of that name",
                where="public",
                got=self.public,
                expected=f"{PROCEDURAL}, {', '.join(SPECS)}, or the path of a .npz file",
            )
        else:
            data = load_data(self.public, data_dir)
        if self.features is not None:
            data = with_features(data, self.features, progress=progress)
        if (data.spec.shape, data.spec.classes) != (spec.shape, spec.classes):
            raise DataError(
                "the public records do not fit the private ones",
                where=f"public data {self.public}",
                got=f"{data.spec.shape}, {data.spec.classes} classes",
                expected=f"{spec.shape}, {spec.classes} classes",
            )
        return data


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
    later = ("plan", "calibrated", "budget", "lineage", "loop", "tuned")
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


def is_file(name: str | None) -> bool:
    """Whether data of this name is a file of the user's."""
    return name is not None and ":" not in name and Path(name).suffix in (".npz", *FILES)


def _same_records(public: str, private: str) -> bool:
    """Whether both name one data set, or one file."""
    if public.endswith(".npz") and private.endswith(".npz"):
        return Path(public).expanduser().resolve() == Path(private).expanduser().resolve()
    return public == private
