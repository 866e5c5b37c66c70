"""`Session`: a run as an iterator over its released steps, for a loop of one's own."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import torch
from dpigu.dpcore import NoiseSource, Plan, RunError
from dpigu.trainers.calibration import claimed_epsilon, epsilon_of_ledger
from dpigu.trainers.callbacks import Callback
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.distributed import joined, leaving
from dpigu.trainers.engines import Loss
from dpigu.trainers.lifecycle.beginning import begun
from dpigu.trainers.lifecycle.lineage import begin_training, end_training, telling_tensors
from dpigu.trainers.lifecycle.prepare import prepare
from dpigu.trainers.lifecycle.resuming import reopened
from dpigu.trainers.lifecycle.run import OpenRun
from dpigu.trainers.loop import Loop
from dpigu.trainers.phases.cost import Cost, expected_cost
from dpigu.trainers.phases.phase import Observer
from dpigu.trainers.progress import Progress
from dpigu.trainers.runs.folder import RunFolder, refuse_occupied
from dpigu.trainers.settings import Optimizer, Settings
from dpigu.trainers.step import Step
from dpigu.trainers.tasks import Metrics
from torch import nn


class Session:
    """A run whose loop is the user's: every step is sampled, clipped, summed, noised and charged.

        with dpigu.Session(plan, data, model, settings, out="runs/mine") as session:
            for step in session:
                step.apply(optimizer)

    A step is in the ledger before it is released. Between steps the loop may do what it likes with
    released values, held-out records and the model. When the `with` block is left, early too, the
    folder gets its summary and statement of what ran; after an exception it can be resumed with
    `Session.resume`. ε is fixed when the session is made; a loop that ends early has spent less,
    and its claim stays what it was.

    Args:
        plan: its noise multipliers are ratios, scaled to the target ε of `settings`.
        data: training and held-out records with their declared constants.
        model: any module without layers that mix records; trained in place.
        settings: budget, sampling, engine, device, and the optimizer where none is given.
        out: the run folder to make; None keeps nothing on disk.
        loss: one record's, from outputs and targets of a batch of one; None: the task's own.
        metrics: functions of outputs and targets by name, measured on held-out records beside the
            task's own.
        optimizer: makes any torch optimizer, or is one; `step.apply(optimizer)` may give it later.
            The schedule of `settings` moves the learning rate of no optimizer that the user made.
        callbacks: told of every step and evaluation.
        observer: watches the releases, and may add rows (audits).
        noise: reproducible noise, for tests; it marks the run as not private.
        labels: names for the configuration and the summary: preset, data, model; and tuned, how
            the settings were chosen, which the statement quotes.
        public: records that nobody protects, for the stages that learn from some.
        before_training: called with the new run folder before the first record is looked at.
        budget: the file of a budget that all runs on these records share (docs/budgets.md).
        progress: show a progress bar.

    Errors: `DpiguError` before anything is spent; `BudgetError` if not one step is affordable.
    """

    _whose: ClassVar[str] = "own"

    def __init__(
        self,
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
        progress: bool = False,
    ) -> None:
        with joined() as ranks:
            if out is not None:
                ranks.first(lambda: refuse_occupied(Path(out)))
            prepared = prepare(
                plan, data, model, settings, loss, labels or {}, public, metrics, ranks
            )
            run = begun(
                prepared,
                self._whose,
                out=out,
                optimizer=optimizer,
                observer=observer,
                noise=noise,
                before_training=before_training,
                budget=budget,
            )
            self._take_up(run, callbacks, progress)

    @classmethod
    def resume(
        cls,
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
        progress: bool = False,
    ) -> Self:
        """Go on with a run from its last checkpoint, with fresh noise.

        Plan, noise and settings are the folder's. What a folder cannot hold is given again, and
        held against what it recorded. Steps that run again are charged again. `session.reached`
        says how many are behind; a learning-rate scheduler of one's own is brought up to that.

        Args:
            folder: the run folder; one process at a time works on it.
            data: the records; None loads them by the name in the configuration.
            model: the untrained module; None builds it by that name. Its weights are the folder's.
            loss, metrics, optimizer: where the run had its own; the optimizer's state is the
                folder's.
            callbacks, observer, noise, progress: as for a new session.
            budget: where the run's budget lies, if it was moved; it began with one, or with none.
            public: the public records; None loads them by name, if the run had any.
            data_dir: where data sets lie.
            trust_code: import a model or data that the folder names as `module:factory`.

        Errors: `RunError` for a folder that another process works on, that is damaged or changed,
            or where something given differs from what the run began with.
        """
        session = cls.__new__(cls)
        with joined() as ranks:
            run = reopened(
                Path(folder),
                cls._whose,
                ranks,
                data=data,
                model=model,
                loss=loss,
                optimizer=optimizer,
                observer=observer,
                noise=noise,
                public=public,
                data_dir=data_dir,
                budget=budget,
                metrics=metrics,
                trust_code=trust_code,
                progress=progress,
            )
            session._take_up(run, callbacks, progress)
        return session

    def _take_up(self, run: OpenRun, callbacks: Sequence[Callback], progress: bool) -> None:
        self._run, first = run, run.prepared.ranks.rank == 0
        self._callbacks = callbacks if first else ()
        weakref.finalize(self, run.release)  # of a session that is never entered
        self._entered = False
        self._summary: Mapping[str, Any] | None = None
        self._known: dict[tuple[int, ...], float | None] = {}
        self._before = telling_tensors(run.prepared.model)
        self.metrics: Mapping[str, Any] = {}
        try:
            self._loop = Loop(run, self._evaluated)
        except BaseException:
            run.release()
            raise
        self._steps = self._walked()
        self._bar = Progress(self.steps, show=progress and first)
        self._shown = contextlib.ExitStack()

    @property
    def model(self) -> nn.Module:
        """The model, on its device."""
        return self._run.prepared.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that `step.apply()` steps."""
        return self._loop.optimizer.now

    @property
    def folder(self) -> Path | None:
        """Where the run lies; None for nowhere, and on all ranks but the first."""
        return None if self._run.folder is None else self._run.folder.path

    @property
    def steps(self) -> int:
        """How many steps the plan has."""
        return self._run.prepared.plan.steps

    @property
    def reached(self) -> int:
        """How many of them are behind."""
        return self._loop.reached

    def expected_cost(self) -> Cost | None:
        """What the steps to come will take, from a trial on made-up records; it spends nothing.

        None where several processes train together.
        """
        return expected_cost(self._run.prepared, self._loop.ahead)

    @property
    def epsilon(self) -> float | None:
        """The claim: ε, fixed before the first step; None for a run that claims none."""
        ledger = self._run.ledger.ledger
        return None if ledger.head.not_private else claimed_epsilon(ledger)

    @property
    def delta(self) -> float:
        """δ of the claim."""
        return self._run.prepared.plan.delta

    @property
    def spent(self) -> float | None:
        """ε of all steps that are paid for so far, a block of at most a fiftieth ahead.

        It is an odometer, and no claim. It is computed once a block.
        """
        ledger = self._run.ledger.ledger
        if ledger.head.not_private:
            return None
        if ledger.charged not in self._known:
            self._known = {ledger.charged: epsilon_of_ledger(ledger).value}
        return self._known[ledger.charged]

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the run claimed, spent and reached, once its `with` block is left."""
        if self._summary is None:
            raise RunError(
                "there is no summary before the session has ended",
                where="session",
                remedy="Ask for it after the `with` block; `spent` and `metrics` are there before.",
            )
        return self._summary

    def stop(self) -> None:
        """End the loop after this step. The claim stays; `spent` says what ran."""
        self._loop.stopping = True

    def __iter__(self) -> Iterator[Step]:
        if not self._entered:
            raise RunError(
                "a session is open only within its `with` block",
                where="session",
                remedy="Write `with dpigu.Session(…) as session:` around the loop.",
            )
        return self._steps

    def __enter__(self) -> Self:
        if self._entered:
            raise RunError("a session is entered once", where="session")
        run = self._run
        try:
            begin_training(run.prepared.model, run.lineage, run.ledger.ledger.head.run)
        except RunError:
            run.release()
            raise
        self._entered = True
        try:
            run.prepared.ranks.first(self._reserve)
            for callback in self._callbacks:
                callback.on_begin(self)
            self._shown.enter_context(self._bar)
        except BaseException:
            self._leave()
            run.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ranks = self._run.prepared.ranks
        try:
            try:
                if error is not None:
                    ranks.leave()
                else:
                    with leaving(ranks):
                        self._end()
            finally:
                self._leave()
            if error is None:
                self._report()
        finally:
            self._run.release()

    def _reserve(self) -> None:
        if self._run.spending is not None:
            self._run.spending.reserve(self._run.ledger.ledger, self._loop.ahead)

    def _walked(self) -> Generator[Step]:
        """The steps, each told to the callbacks when the loop is done with it."""
        for step in self._loop.steps():
            yield step
            for callback in self._callbacks:
                callback.on_step(self, step)
            self._bar.advance(step.number)

    def _evaluated(self, metrics: Mapping[str, Any]) -> None:
        self.metrics = metrics
        self._bar.show(metrics)
        for callback in self._callbacks:
            callback.on_evaluation(self, metrics)

    def _end(self) -> None:
        """Be done with the last step, and write down how the loop ended."""
        self.stop()
        for _ in self._steps:
            raise AssertionError("a stopped loop takes no step")
        self._loop.settle()
        self._run.ledger.end(self._loop.ending)

    def _leave(self) -> None:
        self._shown.close()
        self._steps.close()
        self._run.close(self._before)
        end_training(self._run.prepared.model)

    def _report(self) -> None:
        self._summary = self._run.reported(self._loop.reached, self._loop.statistics())
        for callback in self._callbacks:
            callback.on_end(self, self._summary)
