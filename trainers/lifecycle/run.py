"""A run: at work, and finished."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpigu.dpcore import DpiguError, NoiseSource
from dpigu.trainers.lifecycle.lineage import Ancestor, Lineage, remember
from dpigu.trainers.lifecycle.prepare import PreparedRun
from dpigu.trainers.lifecycle.spending import Spending
from dpigu.trainers.phases.phase import Observer
from dpigu.trainers.runs.folder import RunFolder
from dpigu.trainers.runs.ledger_file import LedgerFile
from dpigu.trainers.runs.report import finish, inside, summarise
from dpigu.trainers.runs.weights import packed
from dpigu.trainers.settings import Optimizer
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
        folder: where checkpoints and metrics go; None for nowhere, and on all ranks but the first.
        optimizer: makes the optimizer, or is the user's own.
        noise: where the kernel's normal draws come from.
        observer: watches the releases, and may add rows; the first rank's.
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

    def close(self, before: frozenset[bytes]) -> None:
        """Take back what was paid for and never began; know the weights again.

        Args:
            before: digests of the weights that were there before the run.
        """
        with contextlib.suppress(DpiguError):
            self.ledger.close()
        if self.spending is not None:
            self.spending.settle(self.ledger.ledger)
        if self.ledger.ledger.steps:
            own = Ancestor.of(self.ledger.ledger, self.prepared.data.spec.name)
            remember(self.prepared.model, (*self.lineage, own), before)

    def reported(self, reached: int, statistics: Mapping[str, Any]) -> Mapping[str, Any]:
        """The summary, written to the folder with model and statement if there is one."""
        prepared = self.prepared
        summary = prepared.said(lambda: self._summary(reached, statistics))
        diagnostics = prepared.said(lambda: inside(prepared))
        model = packed(prepared.model, keep=self.folder is not None)
        return prepared.ranks.agreed(
            lambda: (
                summary if self.folder is None else finish(self.folder, summary, model, diagnostics)
            )
        )

    def _summary(self, reached: int, statistics: Mapping[str, Any]) -> Mapping[str, Any]:
        ledger = self.ledger.ledger if self.folder is None else self.folder.ledger()
        budget = None if self.spending is None else self.spending.name
        return summarise(self.prepared, ledger, reached, self.lineage, budget, statistics)

    def release(self) -> None:
        """Let another process work on the folder, and leave the other ranks."""
        self.prepared.ranks.leave()
        if self.folder is not None:
            self.folder.release()
