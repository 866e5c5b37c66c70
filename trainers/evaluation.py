"""What is measured of a model: the task's metrics on records that are public, or private."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.data.units import Split
from dpigu.trainers.engines.records import called, users_errors
from dpigu.trainers.tasks import Measure, Measured, Metrics, measured
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

NUMBERS = 2**24
"""Outputs that are held at once."""
MOST = 1000
FEW = 8
"""Held-out records that a metric is tried on before a run."""


def measure(model: nn.Module, data: Data, metrics: Metrics, split: Split = "held-out") -> Measured:
    """Every metric of a model on a split; the model evaluates, and goes on as it was.

    Errors: `ModelError` for a model that does not take the records, or puts out what the metrics
    are not of.
    """
    return measured(metrics, _answers(model, data, split))


def try_metrics(model: nn.Module, data: Data, metrics: Metrics) -> None:
    """Measure the untrained model, so that a metric that does not fit is an error now.

    A task's own metrics are tried on a few held-out records, a user's on all of them.
    """
    own = all(isinstance(metric, Measure) for metric in metrics.values())
    answers = _answers(model, data, "held-out", FEW if own else None)
    measured(metrics, (next(answers),) if own else answers)


@torch.no_grad()
def _answers(
    model: nn.Module, data: Data, split: Split, size: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Outputs and targets of all records, batch by batch, on the model's device."""
    device = next(model.parameters()).device

    def home(v: Any) -> Any:
        return v.to(device) if isinstance(v, Tensor) else v

    was_training = model.training
    model.eval()
    try:
        if size is None:
            x_1, _ = next(data.batches(split, 1))
            size = _size(called(model, {}, tree_map(home, x_1)))
        for x_B, y_B in data.batches(split, size):
            y_B = y_B if data.spec.weight_bound is None else y_B[0]
            with users_errors(model, "on held-out records"):
                outputs = called(model, {}, tree_map(home, x_B))
            yield outputs, tree_map(home, y_B)
    finally:
        model.train(was_training)


def _size(outputs: Any) -> int:
    """How many records' outputs are held at once, from those of one."""
    numbers = sum(v.numel() for v in tree_leaves(outputs) if isinstance(v, Tensor))
    return max(1, min(MOST, NUMBERS // max(numbers, 1)))
