"""Callbacks: told of the steps, evaluations and end of a run; they see released values only."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpigu.dpcore import ConfigurationError

if TYPE_CHECKING:
    from dpigu.trainers.session import Session
    from dpigu.trainers.step import Step


class Callback:
    """Watches a run; a method that is not overridden does nothing.

    What it is given was released, is of held-out records, or is public. `session.stop()` ends the
    run after the step that it is told of.
    """

    def on_begin(self, session: Session) -> None:
        """The run is ready, and nothing is spent yet."""

    def on_step(self, session: Session, step: Step) -> None:
        """A step is done: the model has moved by it."""

    def on_evaluation(self, session: Session, metrics: Mapping[str, Any]) -> None:
        """The held-out records were looked at: step, ε spent so far, and metrics by name."""

    def on_end(self, session: Session, summary: Mapping[str, Any]) -> None:
        """The run has ended, and this is its summary."""


@dataclass(kw_only=True)
class EarlyStopping(Callback):
    """Stops a run when a held-out metric has not improved for a number of evaluations.

    The claim stays the calibrated budget: a stop that looked at releases makes it no smaller.
    A resumed run counts anew.

    Args:
        metric: its name among the metrics.
        patience: how many evaluations in a row may bring no improvement.
        mode: whether more (max) or less (min) of it is better.
        least: an improvement is more than this.

    Errors: `ConfigurationError` for a metric that the evaluations do not have.
    """

    metric: str = "test_accuracy"
    patience: int = 3
    mode: Literal["max", "min"] = "max"
    least: float = 0.0
    _best: float | None = field(default=None, init=False, repr=False)
    _without: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.patience < 1 or self.mode not in ("max", "min"):
            raise ConfigurationError(
                "early stopping cannot work so",
                where="EarlyStopping",
                got=f"patience {self.patience}, mode {self.mode}",
                expected="a patience of 1 or more, mode max or min",
            )

    def on_evaluation(self, session: Session, metrics: Mapping[str, Any]) -> None:
        value = metrics.get(self.metric)
        if value is None:
            raise ConfigurationError(
                "the evaluations have no such metric",
                where="EarlyStopping.metric",
                got=self.metric,
                expected=", ".join(name for name in metrics if name != "step"),
            )
        sign = 1 if self.mode == "max" else -1
        if self._best is None or sign * (value - self._best) > self.least:
            self._best, self._without = value, 0
            return
        self._without += 1
        if self._without >= self.patience:
            session.stop()


class CSVLogger(Callback):
    """A line of a CSV file for every evaluation; a file that is there is continued.

    Args:
        path: the file; its first line names the columns.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)

    def on_evaluation(self, session: Session, metrics: Mapping[str, Any]) -> None:
        new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(metrics))
            if new:
                writer.writeheader()
            writer.writerow(metrics)


class TensorBoardLogger(Callback):
    """Curves for TensorBoard: metrics, and the norm of each released gradient.

    Args:
        folder: where the event files go.

    Errors: `ConfigurationError` where the package tensorboard is not installed.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigurationError(
                "TensorBoard is not installed",
                where="TensorBoardLogger",
                remedy="Install `dpigu[tensorboard]`, or log with `CSVLogger`.",
            ) from error
        self._writer: Any = SummaryWriter(str(folder))

    def on_step(self, session: Session, step: Step) -> None:
        norm = float(step.release.gradient.value.norm())
        self._writer.add_scalar(f"released norm/{step.phase}", norm, step.number)

    def on_evaluation(self, session: Session, metrics: Mapping[str, Any]) -> None:
        for name, value in metrics.items():
            if name != "step" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, metrics["step"])
        self._writer.flush()

    def on_end(self, session: Session, summary: Mapping[str, Any]) -> None:
        self._writer.close()
