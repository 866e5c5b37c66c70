"""A progress bar that shows released values only."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from dpigu.accountants.base import rounded_up
from dpigu.trainers.tasks.metrics import titled, told
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text


class _Speed(ProgressColumn):
    """Steps a second, or seconds a step where a step takes longer."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.2g} steps/s" if speed >= 1 else f"{1 / speed:.2g} s/step")


class Progress:
    """Steps done, ε so far and the first held-out metric, on standard error."""

    def __init__(self, steps: int, *, show: bool) -> None:
        self._bar = Bar(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            _Speed(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=not show,
        )
        self._task, self._steps = self._bar.add_task("training", total=steps, note=""), steps

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, done: int) -> None:
        """So many steps are done."""
        self._bar.update(self._task, completed=done)

    def show(self, metrics: Mapping[str, Any]) -> None:
        """Show the metrics of the last evaluation, and at which step they were taken."""
        notes = [] if metrics["epsilon"] is None else [f"ε {rounded_up(metrics['epsilon'], 3)}"]
        names = (key for key in metrics if key.startswith("test_"))
        if (key := next(names, None)) is not None:
            name = key.removeprefix("test_")
            notes.append(f"{titled(name)} {told(name, metrics[key])}")
        at = "" if metrics["step"] == self._steps else f" at step {metrics['step']}"
        self._bar.update(self._task, note=", ".join(notes) + at)
