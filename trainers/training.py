"""`train` and `resume`: a session with the simplest loop, from a plan to a model and its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from dpigu.dpcore import NoiseSource, Plan
from dpigu.trainers.callbacks import Callback
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.engines import Loss
from dpigu.trainers.lifecycle.run import Run
from dpigu.trainers.phases.phase import Observer
from dpigu.trainers.runs.folder import RunFolder
from dpigu.trainers.session import Session
from dpigu.trainers.settings import Optimizer, Settings
from dpigu.trainers.tasks import Metrics
from torch import nn


class _Training(Session):
    """A session whose loop applies every step."""

    _whose: ClassVar[str] = "train"

    def finished(self) -> Run:
        """Take every step."""
        with self:
            for step in self:
                step.apply()
        return Run(self.model.eval(), self.summary, self.folder)


def train(
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    *,
    out: Path | str | None = None,
    loss: Loss | None = None,
    metrics: Metrics | None = None,
    optimizer: Optimizer | None = None,
    callbacks: Sequence[Callback] = (),
    observer: Observer | None = None,
    noise: NoiseSource | None = None,
    labels: Mapping[str, Any] | None = None,
    public: Data | None = None,
    before_training: Callable[[RunFolder], None] | None = None,
    budget: Path | str | None = None,
    progress: bool = True,
) -> Run:
    """Calibrate a plan, train a model by it, and charge what runs.

    A loop of one's own is a `Session`, whose arguments these are. An interrupted run in a folder
    goes on with `dpigu.resume`. A callback that stops the run has looked at releases, so the ε of
    the ledger is then what was spent, and the claim is the calibrated budget.

    Errors: `DpiguError` before anything is spent; `BudgetError` if not one step is affordable.
    """
    return _Training(
        plan,
        data,
        model,
        settings,
        out=out,
        loss=loss,
        metrics=metrics,
        optimizer=optimizer,
        callbacks=callbacks,
        observer=observer,
        noise=noise,
        labels=labels,
        public=public,
        before_training=before_training,
        budget=budget,
        progress=progress,
    ).finished()


def resume(
    folder: Path | str,
    *,
    data: Data | None = None,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    callbacks: Sequence[Callback] = (),
    observer: Observer | None = None,
    noise: NoiseSource | None = None,
    public: Data | None = None,
    data_dir: Path | None = None,
    budget: Path | str | None = None,
    metrics: Metrics | None = None,
    trust_code: bool = False,
    progress: bool = True,
) -> Run:
    """Go on with a run of `train` from its last checkpoint, with fresh noise.

    The arguments and errors are those of `Session.resume`.
    """
    return _Training.resume(
        folder,
        data=data,
        model=model,
        loss=loss,
        optimizer=optimizer,
        callbacks=callbacks,
        observer=observer,
        noise=noise,
        public=public,
        data_dir=data_dir,
        budget=budget,
        metrics=metrics,
        trust_code=trust_code,
        progress=progress,
    ).finished()
