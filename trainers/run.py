"""A run: at work, and finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpigu.dpcore import NoiseSource
from dpigu.trainers.lineage import Lineage
from dpigu.trainers.phase import Observer
from dpigu.trainers.prepare import PreparedRun
from dpigu.trainers.runs.folder import RunFolder
from dpigu.trainers.runs.ledger_file import LedgerFile
from dpigu.trainers.settings import Optimizer
from dpigu.trainers.spending import Spending
from torch import nn


@dataclass(frozen=True)
class Run:
    """A finished run: the model, its summary, and where it lies (None if nowhere)."""

    model: nn.Module
    summary: Mapping[str, Any]
    folder: Path | None


@dataclass(frozen=True)
class OpenRun:
    """A run at work: what is trained, what pays for it, and where it is kept.

    Args:
        prepared: plan, data, model.
        ledger: pays for every step before it runs.
        folder: where checkpoints and metrics go, or None.
        optimizer: makes the optimizer, or is the user's own.
        noise: where the kernel's normal draws come from.
        observer: watches the releases, and may add rows.
        spending: the run's part of a budget that it shares with other runs, or None.
        lineage: the runs that the weights came from.
    """

    prepared: PreparedRun
    ledger: LedgerFile
    folder: RunFolder | None
    optimizer: Optimizer
    noise: NoiseSource
    observer: Observer | None = None
    spending: Spending | None = None
    lineage: Lineage = ()

    def release(self) -> None:
        """Let another process work on the folder."""
        if self.folder is not None:
            self.folder.release()
