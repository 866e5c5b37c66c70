"""A cell: one configuration on one data set, run over seeds; and its run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pooch
import torch
from dpigu.accountants import get_accountant
from dpigu.accountants.events import flatten
from dpigu.dpcore import Plan
from dpigu.trainers import train
from dpigu.trainers.calibration import noise_factor
from dpigu.trainers.data import Data, Tensors
from dpigu.trainers.data.features.registry import feature_map
from dpigu.trainers.models.registry import build_model
from dpigu.trainers.recipes import Recipe, recipe_for
from dpigu.trainers.runs import RunFolder, versions
from dpigu.trainers.settings import Settings

from benchmarks.machine import describe_machine
from benchmarks.study.plans import ablated

HELD_BACK = 10_000
"""At most so many of the last training records validate a configuration; at most a fifth of all."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is run for one number of a table.

    Args:
        name: unique in its table, as data/method/ε.
        data: a data set's name.
        preset: a preset's name.
        epsilon: the target ε; None where the noise multiplier is given in the options.
        options: of `dpigu.trainers.recipes.recipe_for`.
        plan: options of `benchmarks.study.plans.ablated`, in place of the preset's plan.
        validation: train without the last 10,000 training records (a fifth, if that is less), and
            score those; the test records are not looked at.
        points: how often accuracy is taken along a run.
        share: the part of the steps that a trial takes, with the noise of all; its schedule and
            phases are as much shorter. The options name all the steps.
    """

    name: str
    data: str
    preset: str
    epsilon: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] | None = None
    validation: bool = False
    points: int = 1
    share: float = 1.0

    def configuration(self) -> dict[str, Any]:
        """The cell as plain data, which its results carry; without the share where that is 1."""
        plain = dataclasses.asdict(self)
        return plain if self.share < 1 else {k: v for k, v in plain.items() if k != "share"}

    def recipe(self, seed: int, **settings: Any) -> Recipe:
        """The recipe of one run, before its noise is calibrated."""
        asked: dict[str, Any] = {**self.options, "seed": seed, **settings}
        if self.epsilon is not None:
            asked.setdefault("epsilon", self.epsilon)
        recipe = recipe_for(self.preset, self.data, **asked)
        if self.plan is None:
            return recipe
        return replace(
            recipe, plan=ablated(recipe.plan.steps, bound=self.options["clip"], **self.plan)
        )


def measure(cell: Cell, seed: int, data_dir: Path | None) -> dict[str, Any]:
    """One run of a cell: accuracy at the last step, ε of its plan (PRV), and its cost.

    The steps that the run charged must be those of its plan, or ε would be another's. `terms` are
    rate, noise multiplier and count of every mechanism that ran. ε is of them, but for a trial that
    takes a share of the steps: there it is the whole plan's. `features` are the map's name and
    versions, which a cell's configuration does not have.
    """
    whole = recipe = cell.recipe(seed)
    if cell.share < 1:
        recipe = cell.recipe(seed, steps=round(cell.share * cell.options["steps"]))
    data = loaded(recipe.data, recipe.records, recipe.features, data_dir, cell.validation)
    sampler = recipe.settings.sampler(data.spec.records)
    factor, epsilon = calibrated(whole.plan, sampler.rate, data.spec.records, recipe.settings)
    terms = flatten(recipe.plan.scaled_noise(factor).event(sampler))
    public = recipe.load_public(data.spec, data_dir, progress=False)
    settings = replace(
        recipe.settings,
        epsilon=None,
        noise_multiplier=factor,
        accountant="rdp",  # of the points along the way alone
        evaluations=cell.points,
    )
    model = build_model(recipe.model_for(data.spec), data.spec, seed)
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        out = Path(folder) / "run" if cell.points > 1 else None  # the points are in its folder
        run = train(recipe.plan, data, model, settings, out=out, public=public, progress=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        metrics = [dict(run.summary) | {"step": run.summary["steps"]}]
        if out is not None:
            metrics = RunFolder.existing(out).metrics()
    summary = run.summary
    charged = [phase["steps"] for phase in summary["phases"]]
    if charged != [phase.steps for phase in recipe.plan.phases]:
        raise RuntimeError(f"{cell.name}: {charged} steps charged, which is not the plan")
    return {
        "seed": seed,
        "accuracy": summary["test_accuracy"],
        "epsilon": epsilon,
        "delta": summary["delta"],
        "noise_multiplier": summary["noise_multiplier"],
        "steps": summary["steps"],
        "rate": summary["rate"],
        "terms": [dataclasses.astuple(term) for term in terms],
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "threads": torch.get_num_threads(),
        "processor": describe_machine(torch.get_num_threads())["cpu"],
        "features": None if recipe.features is None else feature_map(recipe.features).label,
        "points": [[point["step"], point["test_accuracy"]] for point in metrics],
    }


def measure_one_of(
    todo: Sequence[tuple[Cell, int]], data_dir: Path | None, at: int
) -> dict[str, Any]:
    """The run of one cell and seed of many, by its number: what a worker is sent."""
    cell, seed = todo[at]
    return measure(cell, seed, data_dir)


def mean_and_spread(runs: Sequence[Mapping[str, Any]]) -> tuple[float, float | None]:
    """Mean accuracy and its sample standard deviation over runs; none for a single run."""
    found = [run["accuracy"] for run in runs]
    return statistics.mean(found), statistics.stdev(found) if len(found) > 1 else None


def calibrated(
    plan: Plan, rate: float, records: int, settings: Settings
) -> tuple[float, float | None]:
    """The factor on a plan's noise and ε of the plan with it, both by PRV.

    Both are public and depend on the event and the target alone, so they are kept in the user's
    cache: a calibration takes as long as some runs.
    """
    if not plan.private:
        return 1.0, None
    sampler = settings.sampler(records)
    terms = flatten(plan.event(sampler))
    asked = f"{versions()} {terms} {settings.epsilon} {settings.noise_multiplier} {settings.delta}"
    name = hashlib.sha256(asked.encode()).hexdigest()[:32]
    path = Path(pooch.os_cache("dpigu")) / "noise" / f"{name}.json"
    if path.is_file():
        factor, epsilon = json.loads(path.read_text())
        return factor, epsilon
    factor = noise_factor(plan, sampler, replace(settings, accountant="prv"))
    event = plan.scaled_noise(factor).event(sampler)
    found = get_accountant("prv").epsilon(event, settings.delta, plan.adjacency).value
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")  # two workers may calibrate the same
    part.write_text(json.dumps([factor, found]))
    os.replace(part, path)
    return factor, found


@lru_cache(maxsize=1)
def loaded(
    name: str, records: int | None, features: str | None, data_dir: Path | None, validation: bool
) -> Data:
    """The records as the model sees them; for validation the test records are never used."""
    recipe = recipe_for("dpsgd", name, records=records, features=features)
    data = recipe.load_data(data_dir, progress=False)
    if not validation:
        return data
    kept = data.spec.records - min(HELD_BACK, data.spec.records // 5)
    return Data(
        replace(data.spec, records=kept),
        Tensors(data.train_x[:kept], data.train_y[:kept]),
        Tensors(data.train_x[kept:], data.train_y[kept:]),
    )
