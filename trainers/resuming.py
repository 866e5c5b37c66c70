"""`resume`: a run goes on from its folder, as it was configured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpigu.dpcore import CalibratedPlan, NoiseSource, RunError, SystemNoise
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.engines import Loss
from dpigu.trainers.lineage import Ancestor
from dpigu.trainers.loop import Session, Stop
from dpigu.trainers.phase import Observer
from dpigu.trainers.prepare import PreparedRun, prepare
from dpigu.trainers.recipes.recipe import Recipe, recipe_from_dict
from dpigu.trainers.runs.folder import CONFIGURATION, LEDGER, RunFolder
from dpigu.trainers.runs.identity import (
    check_data,
    check_same,
    described,
    name_of_callable,
    structure_of,
)
from dpigu.trainers.runs.ledger_file import LedgerFile
from dpigu.trainers.runs.load import named_model, refuse_code
from dpigu.trainers.runs.report import why_not_private
from dpigu.trainers.settings import OptimizerFactory, Settings
from dpigu.trainers.spending import Spending
from dpigu.trainers.tasks import Metrics
from dpigu.trainers.training import Run, go
from torch import nn


def resume(
    folder: Path | str,
    *,
    data: Data | None = None,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    optimizer: OptimizerFactory | None = None,
    observer: Observer | None = None,
    noise: NoiseSource | None = None,
    public: Data | None = None,
    data_dir: Path | None = None,
    stop: Stop | None = None,
    budget: Path | str | None = None,
    metrics: Metrics | None = None,
    trust_code: bool = False,
    progress: bool = True,
) -> Run:
    """Go on with a run from its last checkpoint, with fresh noise.

    Plan, noise and settings are the folder's. What a folder cannot hold is given again, and held
    against what it recorded. Steps that run again are charged again.

    Args:
        folder: the run folder; one process at a time works on it.
        data: the records; None loads them by the name in the configuration.
        model: the untrained module; None builds it by that name. Its weights are the folder's.
        loss, optimizer, metrics: where the run had its own.
        observer, noise, stop, progress: as for `train`.
        budget: where the run's budget lies, if it was moved; it began with one, or with none.
        public: the public records; None loads them by name, if the run had any.
        data_dir: where data sets lie.
        trust_code: import a model or data that the folder names as `module:factory`.

    Errors: `RunError` for a folder that another process works on, that is damaged or changed, or
        where something given differs from what the run began with.
    """
    run = RunFolder.locked(Path(folder))
    try:
        table = run.configuration()
        where = str(run.public / CONFIGURATION)
        recipe = recipe_from_dict(table, where)
        plan = CalibratedPlan.from_dict(table["calibrated"], where)
        if plan.mechanisms != run.ledger().head.mechanisms:
            raise RunError(
                "the ledger pays for other mechanisms than the configuration", where=where
            )
        if data is None:
            refuse_code(run, "data", recipe.data, trust_code)
            data = recipe.load_data(data_dir, progress=progress)
        if public is None:
            public = recipe.load_public(data.spec, data_dir, progress=progress)
        check_data(run, data, public)
        if model is None:
            model = named_model(run, table, trust_code)
        check_same("model", structure_of(model), table["model"]["structure"], run)
        prepared = prepare(
            plan,
            data,
            model,
            recipe.settings,
            loss,
            _labels(recipe, data.spec, table),
            public,
            metrics,
        )
        check_same("loss", name_of_callable(prepared.loss), table["loss"]["name"], run)
        check_same("metrics", sorted(metrics or ()), sorted(table.get("metrics", ())), run)
        make = _optimizer(run, table, optimizer, prepared, recipe.settings)
        noise = noise if noise is not None else SystemNoise()
        if not run.ledger().head.not_private:
            check_same("noise", why_not_private(prepared, noise), "", run)
        spending = Spending.resumed(run, table, None if budget is None else Path(budget), prepared)
        ledger = LedgerFile(run.public / LEDGER, None, None if spending is None else spending.pay)
        lineage = tuple(Ancestor.from_dict(ancestor) for ancestor in table.get("lineage", ()))
        session = Session(prepared, ledger, run, make, noise, observer, stop, spending, lineage)
        return go(session, progress)
    finally:
        run.release()


def _optimizer(
    run: RunFolder,
    table: Mapping[str, Any],
    given: OptimizerFactory | None,
    prepared: PreparedRun,
    settings: Settings,
) -> OptimizerFactory:
    """The factory that was given, or the settings' own, if the run began with it."""
    recorded = table.get("optimizer")
    if given is None:
        check_same("optimizer", None, recorded and recorded["name"], run)
        return settings.factory()
    parameters = [p for p in prepared.model.parameters() if p.requires_grad]
    check_same("optimizer", described(given(parameters)), recorded, run)
    return given


def _labels(recipe: Recipe, spec: DataSpec, table: Mapping[str, Any]) -> dict[str, Any]:
    found = recipe.labels(spec) | {"model": table["model"]["name"]}
    return found | ({"tuned": table["tuned"]} if "tuned" in table else {})
