"""What a run folder holds, held against what is given again: a run to go on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from dpigu.dpcore import CalibratedPlan, NoiseSource, Ranks, RunError, SystemNoise
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.distributed import check_same as check_same_on_ranks
from dpigu.trainers.engines import Loss
from dpigu.trainers.lifecycle.lineage import Ancestor, lineage_of
from dpigu.trainers.lifecycle.prepare import PreparedRun, prepare
from dpigu.trainers.lifecycle.run import OpenRun
from dpigu.trainers.lifecycle.spending import Spending
from dpigu.trainers.optim import HeldOptimizer
from dpigu.trainers.phases.phase import Observer
from dpigu.trainers.recipes.from_file import recipe_from_dict
from dpigu.trainers.recipes.recipe import Recipe
from dpigu.trainers.runs.folder import CONFIGURATION, LEDGER, RunFolder
from dpigu.trainers.runs.identity import (
    check_data,
    check_ranks,
    check_same,
    described,
    name_of_callable,
    structure_of,
)
from dpigu.trainers.runs.ledger_file import LedgerFile
from dpigu.trainers.runs.load import named_model, refuse_code
from dpigu.trainers.runs.report import SAID, why_not_private
from dpigu.trainers.settings import Optimizer
from dpigu.trainers.tasks import Metrics
from torch import nn

RESUMED_BY = {"train": "dpigu.resume", "own": "dpigu.Session.resume"}
"""How a run goes on, by whose loop it is."""


def reopened(
    path: Path,
    loop: str,
    ranks: Ranks,
    *,
    data: Data | None,
    model: nn.Module | None,
    loss: Loss | None,
    optimizer: Optimizer | None,
    observer: Observer | None,
    noise: NoiseSource | None,
    public: Data | None,
    data_dir: Path | None,
    budget: Path | str | None,
    metrics: Metrics | None,
    trust_code: bool,
    progress: bool,
) -> OpenRun:
    """A run that goes on, with its folder locked; `dpigu.Session.resume` says what is given.

    Args:
        loop: whose loop it is: `train`'s, or the user's own.
        ranks: who go on with it; the first one alone works on the folder.
    """
    locked = ranks.first(lambda: RunFolder.locked(path))
    run = RunFolder(path) if locked is None else locked
    try:
        table = ranks.agreed(run.configuration)
        head = ranks.agreed(run.ledger).head
        where = str(run.public / CONFIGURATION)
        recipe = recipe_from_dict(table, where).located(run.private)
        _check_loop(loop, table, run)
        plan = CalibratedPlan.from_dict(table["calibrated"], where)
        if plan.mechanisms != head.mechanisms:
            raise RunError(
                "the ledger pays for other mechanisms than the configuration", where=where
            )
        if data is None:
            refuse_code(run, "data", recipe.data, trust_code)
        if public is None:
            refuse_code(run, "public data", recipe.public or "", trust_code)
        if data is None:
            data = recipe.load_data(data_dir, progress=progress)
        if public is None:
            public = recipe.load_public(data.spec, data_dir, progress=progress)
        ranks.first(lambda: check_data(run, data, public))
        check_ranks(ranks, data, public)
        unit = None if data.spec.unit is None else vars(data.spec.unit)
        check_same("unit of privacy", unit, table["data"].get("unit"), run)
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
            ranks,
        )
        check_same("loss", name_of_callable(prepared.loss), table["loss"]["name"], run)
        check_same("metrics", sorted(metrics or ()), sorted(table.get("metrics", ())), run)
        chosen = _optimizer(run, table, optimizer, prepared)
        noise = noise if noise is not None else SystemNoise()
        if not head.not_private:
            check_same("noise", why_not_private(prepared, noise), "", run)
        check_same_on_ranks(ranks, "noise", why_not_private(prepared, noise))
        where_budget = None if budget is None else Path(budget)
        spending = ranks.first(lambda: Spending.resumed(run, table, where_budget, prepared))
        pay = None if spending is None else spending.pay
        ledger = LedgerFile(None if locked is None else run.public / LEDGER, None, pay, ranks)
        ledger.begin_again()
        known = (Ancestor.from_dict(ancestor) for ancestor in table.get("lineage", ()))
        own = ledger.ledger.head.run
        found = {a.run: a for a in (*known, *lineage_of(model)) if a.run != own}
        lineage = tuple(found.values())
    except BaseException:
        run.release()
        raise
    return OpenRun(prepared, ledger, locked, chosen, noise, observer, spending, lineage)


def _check_loop(loop: str, table: Mapping[str, Any], run: RunFolder) -> None:
    recorded = table.get("loop", "train")
    if loop != recorded:
        raise RunError(
            "the run began in another loop",
            where=str(run.path),
            got=RESUMED_BY[loop],
            expected=RESUMED_BY.get(recorded),
            remedy="Go on as it began.",
        )


def _optimizer(
    run: RunFolder, table: Mapping[str, Any], given: Optimizer | None, prepared: PreparedRun
) -> Optimizer:
    """What was given, or the settings' own factory, if the run began with it."""
    recorded = table.get("optimizer")
    if given is None:
        check_same("optimizer", None, recorded and recorded["name"], run)
        return prepared.settings.factory()
    found = described(HeldOptimizer(given, prepared.model).now)
    if isinstance(given, torch.optim.Optimizer) and recorded is not None:
        found, recorded = _without_rates(found), _without_rates(recorded)
    check_same("optimizer", found, recorded, run)
    return given


def _without_rates(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer without its learning rates, which a scheduler of the user's may have moved."""
    rates = ("lr", "initial_lr")
    groups = [{k: v for k, v in g.items() if k not in rates} for g in optimizer["groups"]]
    return {"name": optimizer["name"], "groups": groups}


def _labels(recipe: Recipe, spec: DataSpec, table: Mapping[str, Any]) -> dict[str, Any]:
    found = recipe.labels(spec) | {"model": table["model"]["name"]}
    return found | {key: table[key] for key in SAID if key in table}
