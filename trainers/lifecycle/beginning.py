"""The beginning of a run: its folder, with all that it must hold before the first step."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dpigu.dpcore import ConfigurationError, NoiseSource, SystemNoise
from dpigu.dpcore.claim import Head
from dpigu.trainers.distributed import check_same
from dpigu.trainers.lifecycle.lineage import Lineage, lineage_of
from dpigu.trainers.lifecycle.prepare import PreparedRun
from dpigu.trainers.lifecycle.run import OpenRun
from dpigu.trainers.lifecycle.spending import Spending
from dpigu.trainers.loop import initial_weights, longest_block
from dpigu.trainers.optim import HeldOptimizer
from dpigu.trainers.phases.phase import Observer
from dpigu.trainers.recipes.recipe import LOCATIONS
from dpigu.trainers.runs import checkpoint, disk
from dpigu.trainers.runs.checkpoint import Checkpoint
from dpigu.trainers.runs.folder import LEDGER, RunFolder
from dpigu.trainers.runs.identity import check_ranks, remember_data
from dpigu.trainers.runs.ledger_file import LedgerFile
from dpigu.trainers.runs.report import configuration, why_not_private
from dpigu.trainers.settings import Optimizer

SCHEDULE = ("schedule", "warmup")
"""The settings that say nothing of an optimizer that the user made."""


def begun(
    prepared: PreparedRun,
    loop: str,
    *,
    out: Path | str | None,
    optimizer: Optimizer | None,
    observer: Observer | None,
    noise: NoiseSource | None,
    before_training: Callable[[RunFolder], None] | None,
    budget: Path | str | None,
) -> OpenRun:
    """A new run, with its folder locked if it has one; `dpigu.Session` says what is given.

    Args:
        loop: whose loop it is: `train`'s, or the user's own.
    """
    ranks, noise = prepared.ranks, noise if noise is not None else SystemNoise()
    if isinstance(optimizer, torch.optim.Optimizer) and optimizer.state:
        raise ConfigurationError(
            "the optimizer remembers steps from before this run, which no noise covers",
            where=type(optimizer).__name__,
            remedy="Make a new one of the same kind for this run.",
        )
    chosen = optimizer if optimizer is not None else prepared.settings.factory()
    lineage = lineage_of(prepared.model)
    table = _table(prepared, loop, optimizer, lineage)
    check_same(ranks, "configuration", table)
    check_same(ranks, "noise", why_not_private(prepared, noise))
    check_ranks(ranks, prepared.data, prepared.public)
    spending = None if budget is None else ranks.first(lambda: Spending.begun(budget, prepared))
    pay = None if spending is None else spending.pay
    if out is None:
        ledger = LedgerFile(None, _head(prepared, "", noise), pay, ranks)
        return OpenRun(prepared, ledger, None, chosen, noise, observer, spending, lineage)
    held = HeldOptimizer(chosen, prepared.model).state()
    start = Checkpoint(0, 0, initial_weights(prepared), (), held)
    start = checkpoint.gathered(start, keep=ranks.rank == 0)
    folder = ranks.first(
        lambda: _folder(Path(out), prepared, table, start, noise, spending, before_training)
    )
    try:
        path = None if folder is None else folder.public / LEDGER
        ledger = LedgerFile(path, None, pay, ranks)
    except BaseException:
        if folder is not None:
            folder.release()
        raise
    return OpenRun(prepared, ledger, folder, chosen, noise, observer, spending, lineage)


def new_run_id() -> str:
    """A name that no other run has, whatever it trains on."""
    return secrets.token_hex(16)


def _head(prepared: PreparedRun, configuration: str, noise: NoiseSource) -> Head:
    plan = prepared.plan
    return Head(
        run=new_run_id(),
        configuration=configuration,
        delta=plan.delta,
        accountant=plan.accountant,
        adjacency=plan.adjacency,
        epsilon=plan.epsilon,
        records=plan.sampler.records,
        block=longest_block(plan.steps),
        not_private=why_not_private(prepared, noise),
        mechanisms=plan.mechanisms,
        unit=prepared.data.spec.unit,
    )


def _table(
    prepared: PreparedRun,
    loop: str,
    optimizer: Optimizer | None,
    lineage: Lineage,
) -> dict[str, Any]:
    """The configuration of a new run."""
    own = None if optimizer is None else HeldOptimizer(optimizer, prepared.model)
    table = configuration(prepared, None if own is None else own.now)
    if own is not None and not own.made_here:
        table["settings"] = {k: v for k, v in table["settings"].items() if k not in SCHEDULE}
    if loop != "train":
        table["loop"] = loop
    if lineage:
        table["lineage"] = [ancestor.to_dict() for ancestor in lineage]
    return table


def _folder(
    out: Path,
    prepared: PreparedRun,
    table: dict[str, Any],
    start: Checkpoint,
    noise: NoiseSource,
    spending: Spending | None,
    before_training: Callable[[RunFolder], None] | None,
) -> RunFolder:
    """A new run's folder, locked; it has its name when all that it must hold is there."""
    folder = RunFolder.begin(out, prepared.claims)
    try:
        _write(folder, prepared, table, start, noise, spending, before_training)
        folder.finish_begin(out)
    except BaseException:
        folder.release()
        raise
    return folder


def _write(
    folder: RunFolder,
    prepared: PreparedRun,
    table: dict[str, Any],
    start: Checkpoint,
    noise: NoiseSource,
    spending: Spending | None,
    before_training: Callable[[RunFolder], None] | None,
) -> None:
    if spending is not None:
        table = {**table, "budget": {"name": spending.name}}
        spending.remember(folder)
    digest = folder.write_configuration(table)
    remember_data(folder, prepared.data, prepared.public)
    if files := prepared.labels.get("files"):
        folder.write_private(LOCATIONS, (json.dumps(files) + "\n").encode())
    if before_training is not None:
        before_training(folder)
    path = folder.public / LEDGER
    disk.append(path, _head(prepared, digest, noise).line() + b"\n", flush=True)
    checkpoint.write(folder.public / checkpoint.FILE, start, folder.ledger())
