"""Tasks by name: what a target must be, the loss of one record, and the metrics by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from dpigu.dpcore.errors import DataError, did_you_mean
from dpigu.trainers.tasks import losses, metrics
from dpigu.trainers.tasks.metrics import Metric
from torch import Tensor

Problem = tuple[str, str, str] | None
"""What is wrong with targets, what they are, and what they must be; never a value."""


@dataclass(frozen=True)
class Task:
    """What a model is trained for. It is known by its name.

    Args:
        name: in `TASKS`, or a user's own.
        targets: what targets y, N × …, must be for so many classes: what is wrong, or None.
        loss: of one record, from outputs and targets of a batch of one; None: one must be given.
        metrics: on held-out records, by the names that everything public calls them.
        counts: what `classes` counts, where it must be declared; None where there are none.
    """

    name: str
    targets: Callable[[Any, int | None], Problem] = field(compare=False, repr=False)
    loss: Callable[[Any, Any], Tensor] | None = field(default=None, compare=False, repr=False)
    metrics: Mapping[str, Metric] = field(default_factory=dict, compare=False, repr=False)
    counts: str | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.name


def _kind(y: Tensor) -> str:
    return f"{str(y.dtype).removeprefix('torch.')}, {y.ndim} axes"


def _labels(y_N: Tensor, classes: int | None) -> Problem:
    if y_N.ndim != 1 or y_N.dtype != torch.int64:
        what = "the labels are not one integer for each record"
        return what, f"{y_N.dtype}, {y_N.ndim} axes", "int64, 1 axis"
    return _within(y_N, classes)


def _within(y: Tensor, classes: int | None) -> Problem:
    if classes is not None and y.numel() and (int(y.min()) < 0 or int(y.max()) >= classes):
        return f"a label lies outside 0…{classes - 1}", "", ""
    return None


def _tokens(y_NT: Tensor, classes: int | None) -> Problem:
    if y_NT.ndim != 2 or y_NT.dtype != torch.int64:
        return "the targets are not one integer for each token", _kind(y_NT), "int64, 2 axes"
    return _within(torch.where(y_NT == losses.IGNORED, 0, y_NT), classes)


def _one_bit(y_N: Tensor, classes: int | None) -> Problem:
    if y_N.ndim != 1:
        return "the targets are not one 0 or 1 for each record", _kind(y_N), "1 axis"
    return _bits(y_N, classes)


def _many_bits(y_NL: Tensor, classes: int | None) -> Problem:
    if y_NL.ndim != 2 or y_NL.shape[1] != classes:
        got = tuple(y_NL.shape[1:])
        return "the targets are not one 0 or 1 for each label", str(got), f"({classes},)"
    return _bits(y_NL, classes)


def _bits(y: Tensor, classes: int | None) -> Problem:
    if not bool(((y == 0) | (y == 1)).all()):
        return "a target is neither 0 nor 1", "", ""
    return None


def _numbers(y: Tensor, classes: int | None) -> Problem:
    if not y.is_floating_point():
        return "the targets of a regression are not floats", _kind(y), "a float type"
    return None if bool(y.isfinite().all()) else ("a target is not finite", "", "")


def _anything(y: Any, classes: int | None) -> Problem:
    return None


_TOKEN_LOSS = losses.token_cross_entropy
TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "classification",
            _labels,
            losses.cross_entropy,
            {"accuracy": metrics.ACCURACY},
            "labels are 0 … classes − 1",
        ),
        Task(
            "multi-label",
            _many_bits,
            losses.binary_cross_entropy,
            {"f1": metrics.F1, "subset_accuracy": metrics.SUBSET_ACCURACY},
            "a record has so many labels, 0 or 1 each",
        ),
        Task(
            "binary",
            _one_bit,
            losses.binary_cross_entropy,
            {"accuracy": metrics.BINARY_ACCURACY, "f1": metrics.F1},
        ),
        Task(
            "regression",
            _numbers,
            losses.squared_error,
            {"rmse": metrics.RMSE, "r2": metrics.R2},
        ),
        Task(
            "token-classification",
            _tokens,
            _TOKEN_LOSS,
            {"token_accuracy": metrics.TOKEN_ACCURACY},
            "labels are 0 … classes − 1, −100 where none counts",
        ),
        Task(
            "causal-lm",
            _tokens,
            losses.next_token_cross_entropy,
            {"perplexity": metrics.NEXT_PERPLEXITY},
            "the vocabulary",
        ),
        Task(
            "masked-lm",
            _tokens,
            _TOKEN_LOSS,
            {"perplexity": metrics.PERPLEXITY},
            "the vocabulary",
        ),
        Task(
            "seq2seq",
            _tokens,
            _TOKEN_LOSS,
            {"perplexity": metrics.PERPLEXITY, "token_accuracy": metrics.TOKEN_ACCURACY},
            "the vocabulary of the targets",
        ),
        Task("other", _anything),
    )
}
"""The tasks that have a name. `other` wants a loss, and metrics if anything is to be measured."""
CLASSIFICATION = TASKS["classification"]


def task_named(name: str | Task) -> Task:
    """The task of that name, or the one given.

    Errors: `DataError` for an unknown name.
    """
    if isinstance(name, Task):
        return name
    if name not in TASKS:
        raise DataError(
            "there is no task of that name",
            where="task",
            got=name,
            expected=", ".join(TASKS),
            remedy=did_you_mean(name, TASKS),
        )
    return TASKS[name]


def task_of(y: Any, name: str) -> Task:
    """The task that targets of this type and shape leave no doubt about: integers, one a record.

    Args:
        y: targets, N × …; no value is looked at.
        name: of the data, for the error.

    Errors: `DataError` where more than one task would fit.
    """
    fits: tuple[str, ...]
    if not isinstance(y, Tensor):
        fits, got = ("other",), "a tree of tensors"
    elif y.ndim == 1 and y.dtype == torch.int64:
        return CLASSIFICATION
    elif y.ndim == 1:
        fits, got = ("regression", "binary"), _kind(y)
    elif y.is_floating_point():
        fits, got = ("regression", "multi-label"), _kind(y)
    else:
        fits = ("multi-label", "token-classification", "causal-lm", "masked-lm", "seq2seq")
        got = _kind(y)
    raise DataError(
        "the targets fit more than one task",
        where=name,
        got=got,
        expected=" or ".join(fits),
        remedy=f"Declare it as `task`, for example {fits[0]}.",
    )
