"""`train`: a new run, from a plan to a model and what it cost."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpigu.dpcore import DpiguError, NoiseSource, Plan, SystemNoise
from dpigu.dpcore.claim import Head
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.engines import Loss
from dpigu.trainers.lineage import Ancestor, Lineage, lineage_of, remember, trained_tensors
from dpigu.trainers.loop import Loop, Session, Stop, initial_weights, longest_block
from dpigu.trainers.phase import Observer
from dpigu.trainers.prepare import PreparedRun, prepare
from dpigu.trainers.progress import Progress
from dpigu.trainers.runs import checkpoint, disk
from dpigu.trainers.runs.checkpoint import Checkpoint
from dpigu.trainers.runs.folder import LEDGER, RunFolder
from dpigu.trainers.runs.identity import remember_data
from dpigu.trainers.runs.ledger_file import LedgerFile
from dpigu.trainers.runs.report import configuration, finish, summarise, why_not_private
from dpigu.trainers.settings import OptimizerFactory, Settings
from dpigu.trainers.spending import Spending
from dpigu.trainers.tasks import Metrics
from torch import nn


@dataclass(frozen=True)
class Run:
    """A finished run: the model, its summary, and where it lies (None if nowhere)."""

    model: nn.Module
    summary: Mapping[str, Any]
    folder: Path | None


def train(
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    *,
    out: Path | str | None = None,
    loss: Loss | None = None,
    metrics: Metrics | None = None,
    optimizer: OptimizerFactory | None = None,
    observer: Observer | None = None,
    noise: NoiseSource | None = None,
    labels: Mapping[str, Any] | None = None,
    public: Data | None = None,
    stop: Stop | None = None,
    before_training: Callable[[RunFolder], None] | None = None,
    budget: Path | str | None = None,
    progress: bool = True,
) -> Run:
    """Calibrate a plan, train a model by it, and charge what runs.

    An interrupted run in a folder goes on with `dpigu.resume`.

    Args:
        plan: its noise multipliers are ratios, scaled to the target ε of `settings`.
        data: training and held-out records with their declared constants.
        model: any module without layers that mix records; trained in place.
        settings: budget, sampling, optimizer, engine, device.
        out: the run folder to make; None keeps nothing on disk.
        loss: one record's, from outputs and targets of a batch of one; None: the task's own.
        metrics: functions of outputs and targets by name, measured on held-out records beside the
            task's own.
        optimizer: makes any torch optimizer, in place of the one in `settings`.
        observer: watches the releases, and may add rows (audits).
        noise: reproducible noise, for tests; it marks the run as not private.
        labels: names for the configuration and the summary: preset, data, model; and tuned, how
            the settings were chosen, which the statement quotes.
        public: records that nobody protects, for the stages that learn from some.
        stop: told the metrics of every evaluation; True ends the run there. It looked at releases,
            so the ε of the ledger is then what was spent, and the claim is the calibrated budget.
        before_training: called with the new run folder before the first record is looked at.
        budget: the file of a budget that all runs on these records share (docs/budgets.md).
        progress: show a progress bar.

    Errors: `DpiguError` before anything is spent; `BudgetError` if not one step is affordable.
    """
    prepared = prepare(plan, data, model, settings, loss, labels or {}, public, metrics)
    noise = noise if noise is not None else SystemNoise()
    make = optimizer if optimizer is not None else settings.factory()
    spending = None if budget is None else Spending.begun(budget, prepared)
    pay = None if spending is None else spending.pay
    lineage = lineage_of(model)
    if out is None:
        ledger = LedgerFile(None, _head(prepared, "", noise), pay)
        session = Session(prepared, ledger, None, make, noise, observer, stop, spending, lineage)
        return go(session, progress)
    folder = RunFolder.begin(Path(out), prepared.claims)
    try:
        own = optimizer is not None
        _write_beginning(folder, prepared, make, own, noise, spending, lineage, before_training)
        folder.finish_begin(Path(out))
        ledger = LedgerFile(folder.public / LEDGER, None, pay)
        session = Session(prepared, ledger, folder, make, noise, observer, stop, spending, lineage)
        return go(session, progress)
    finally:
        folder.release()


def go(session: Session, progress: bool) -> Run:
    """Run a session to its end, and say what it came to.

    What was paid for and has not run is taken back when it is interrupted.
    """
    prepared, folder, ledger = session.prepared, session.folder, session.ledger
    started = trained_tensors(prepared.model)
    bar = Progress(prepared.plan.steps, show=progress)
    try:
        loop = Loop(session, bar)
        if session.spending is not None:
            session.spending.reserve(ledger.ledger, loop.ahead)
        with bar:
            ledger.end(loop.run())
    except BaseException:
        with contextlib.suppress(DpiguError):
            ledger.close()
        raise
    finally:
        if session.spending is not None:
            session.spending.settle(ledger.ledger)
        if ledger.ledger.steps:
            own = Ancestor.of(ledger.ledger, prepared.data.spec.name)
            remember(prepared.model, (*session.lineage, own), started)
    on_disk = ledger.ledger if folder is None else folder.ledger()
    budget = None if session.spending is None else session.spending.name
    summary = summarise(prepared, on_disk, loop.reached, session.lineage, budget, loop.statistics())
    if folder is not None:
        summary = finish(prepared, folder, summary)
    return Run(prepared.model.eval(), summary, folder.path if folder is not None else None)


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
    )


def _write_beginning(
    folder: RunFolder,
    prepared: PreparedRun,
    make: OptimizerFactory,
    own_optimizer: bool,
    noise: NoiseSource,
    spending: Spending | None,
    lineage: Lineage,
    before_training: Callable[[RunFolder], None] | None,
) -> None:
    """Everything that a folder must hold before it has its name."""
    parameters = [p for p in prepared.model.parameters() if p.requires_grad]
    optimizer = make(parameters)
    table = configuration(prepared, optimizer if own_optimizer else None)
    if spending is not None:
        table["budget"] = {"name": spending.name}
        spending.remember(folder)
    if lineage:
        table["lineage"] = [ancestor.to_dict() for ancestor in lineage]
    digest = folder.write_configuration(table)
    remember_data(folder, prepared.data, prepared.public)
    if before_training is not None:
        before_training(folder)
    path = folder.public / LEDGER
    disk.append(path, _head(prepared, digest, noise).line() + b"\n", flush=True)
    start = Checkpoint(0, 0, initial_weights(prepared), (), optimizer.state_dict())
    checkpoint.write(folder.public / checkpoint.FILE, start, folder.ledger())
