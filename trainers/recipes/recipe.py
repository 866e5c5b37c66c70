"""A recipe: a plan, data, a model and settings, by name; what a command or a TOML file says."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpigu.dpcore import ConfigurationError, DataError, Plan, RunError
from dpigu.dpcore.unit import Unit
from dpigu.trainers.code import names_code
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
from dpigu.trainers.data.sources.columns import Columns, columns_to_dict
from dpigu.trainers.data.sources.tables import FILES
from dpigu.trainers.models import default_model
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
        public: a data set's name, an `.npz` path, `module:factory` (whose training split counts) or
            `procedural` (made-up records), for the stages that learn from public records.
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
        elif not names_code(self.public) and self.public not in SPECS:
            raise ConfigurationError(
                "there is no public data of that name",
                where="public",
                got=self.public,
                expected=f"{PROCEDURAL}, {', '.join(SPECS)}, the path of a .npz file, or "
                "module:factory",
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


def is_file(name: str | None) -> bool:
    """Whether data of this name is a file of the user's."""
    return name is not None and not names_code(name) and Path(name).suffix in (".npz", *FILES)


def _same_records(public: str, private: str) -> bool:
    """Whether both name one data set, or one file."""
    if public.endswith(".npz") and private.endswith(".npz"):
        return Path(public).expanduser().resolve() == Path(private).expanduser().resolve()
    return public == private
