"""What is measured on held-out records: sums over batches, or a function of all outputs.

A task's own metrics are sums, so outputs are never held for more than a batch. A user's metric is
any `function(outputs, targets)`, such as those of scikit-learn and torchmetrics, called with the
outputs and targets of all held-out records; an object with `update` and `compute` is fed batch by
batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from dpigu.dpcore import ConfigurationError, DpiguError, ModelError
from dpigu.trainers.tasks.losses import fitting, logits_of, shifted, token_losses
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

SHARES = ("accuracy", "subset_accuracy", "token_accuracy", "f1")
"""The metrics that read as percentages."""


class Baseline(NamedTuple):
    """What a metric is of one answer to all records, the best there is: the value to be above.

    Args:
        answer: in words.
        value: of the totals of a `Measure`; None where it is not defined.
    """

    answer: str
    value: Callable[[Tensor], float | None]


@dataclass(frozen=True)
class Measure:
    """A metric that is a function of sums over records.

    Args:
        sums: outputs and targets of a batch to numbers that are added up, in float64.
        value: of the totals; None where it is not defined.
        baseline: of the same totals, what needs no model.
    """

    sums: Callable[[Any, Any], Tensor]
    value: Callable[[Tensor], float | None]
    baseline: Baseline | None = None


Metric = Any
"""A `Measure`, a function of outputs and targets, or an object with reset, update and compute."""
Metrics = Mapping[str, Metric]


class Measured(NamedTuple):
    """Metrics of a split by name, None where one is not defined, and the baselines there are.

    A baseline is a fact about the split's targets, and public where the split is.
    """

    values: dict[str, float | None]
    baselines: dict[str, dict[str, Any]]


def measured(metrics: Metrics, batches: Iterable[tuple[Any, Any]]) -> Measured:
    """Every metric of a split.

    Args:
        batches: outputs and targets, B × … each.

    Errors: `ConfigurationError` for a user's metric that fails or gives no number.
    """
    at_work = {name: _at_work(name, metric) for name, metric in metrics.items()}
    for outputs, y in batches:
        for metric in at_work.values():
            metric.see(outputs, y)
    found = {name: metric.baseline() for name, metric in at_work.items()}
    return Measured(
        {name: metric.result() for name, metric in at_work.items()},
        {name: baseline for name, baseline in found.items() if baseline is not None},
    )


class _Summed:
    """A task's own metric: totals of what every batch adds."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._total: Tensor | None = None

    def see(self, outputs: Any, y: Any) -> None:
        found = self._measure.sums(outputs, y).cpu()
        self._total = found if self._total is None else self._total + found

    def result(self) -> float | None:
        return None if self._total is None else self._measure.value(self._total)

    def baseline(self) -> dict[str, Any] | None:
        known = self._measure.baseline
        value = None if known is None or self._total is None else known.value(self._total)
        return None if known is None or value is None else {"answer": known.answer, "value": value}


class _Users:
    """A user's own metric, of which no baseline is known."""

    def baseline(self) -> None:
        return None


class _Fed(_Users):
    """A user's object that is fed batch by batch."""

    def __init__(self, name: str, metric: Any) -> None:
        self._name, self._metric = name, metric
        metric.reset()

    def see(self, outputs: Any, y: Any) -> None:
        _users(self._name, self._metric.update, *tree_map(_home, (outputs, y)))

    def result(self) -> float | None:
        return _number(self._name, _users(self._name, self._metric.compute))


class _Whole(_Users):
    """A user's function of all outputs and targets."""

    def __init__(self, name: str, function: Callable[[Any, Any], Any]) -> None:
        self._name, self._function = name, function
        self._outputs: list[Any] = []
        self._y: list[Any] = []

    def see(self, outputs: Any, y: Any) -> None:
        self._outputs.append(tree_map(_home, outputs))
        self._y.append(tree_map(_home, y))

    def result(self) -> float | None:
        both = _joined(self._outputs), _joined(self._y)
        return _number(self._name, _users(self._name, self._function, *both))


def _at_work(name: str, metric: Metric) -> _Summed | _Fed | _Whole:
    if isinstance(metric, Measure):
        return _Summed(metric)
    if all(callable(getattr(metric, part, None)) for part in ("reset", "update", "compute")):
        return _Fed(name, metric)
    return _Whole(name, metric)


def told(name: str, value: float | None) -> str:
    """A metric's value as a reader wants it."""
    if value is None:
        return "undefined"
    return f"{value:.2%}" if name in SHARES else f"{value:.4g}"


def titled(name: str) -> str:
    """A metric's name in words."""
    return {"r2": "R²", "rmse": "RMSE", "f1": "F1"}.get(name, name.replace("_", " "))


def _home(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _joined(trees: list[Any]) -> Any:
    if all(isinstance(tree, Tensor) for tree in trees):
        return torch.cat(trees)
    return tree_map(lambda *leaves: torch.cat(leaves), *trees)


def _users(name: str, function: Callable[..., Any], *given: Any) -> Any:
    try:
        return function(*given)
    except DpiguError:
        raise
    except Exception as error:  # whatever a user's code raises
        shapes = [tuple(v.shape) for v in tree_leaves(given) if isinstance(v, Tensor)]
        raise ConfigurationError(
            f"the metric raised {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            where=f"metrics[{name!r}]",
            got=f"tensors of shapes {shapes}",
            remedy="Give a function of outputs and targets that returns a number.",
        ) from error


def _number(name: str, value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            "the metric gives no number", where=f"metrics[{name!r}]", got=type(value).__name__
        ) from error
    return number if math.isfinite(number) else None


def _sums(*values: Any) -> Tensor:
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).cpu() for v in values])


def _share(total: Tensor) -> float | None:
    right, count = total[:2].tolist()
    return right / count if count else None


def _largest(total: Tensor) -> float | None:
    """The share of the class with most records; how many each has stands behind the two sums."""
    return float(total[2:].max() / total[1]) if total[1] else None


def _each(y: Tensor, classes: int) -> Tensor:
    """How often each class is a target."""
    return torch.bincount(y.cpu(), minlength=classes)[:classes].double()


def _classes_right(outputs: Any, y_B: Tensor) -> Tensor:
    logits = logits_of(outputs)
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ModelError(
            "accuracy over classes is of models with one output for each class",
            where="outputs",
            got=tuple(logits.shape[1:]) or "one number a record",
            expected="(classes,), two or more",
            remedy="For one logit declare the task 'binary'; for numbers 'regression'; else "
            "'other', with `metrics` of your own.",
        )
    right = _sums((logits.argmax(1) == y_B).sum(), len(y_B))
    return torch.cat([right, _each(y_B, logits.shape[1])])


def _binary_right(outputs: Any, y_B: Tensor) -> Tensor:
    so = y_B > 0
    return _sums(((fitting(outputs, y_B) > 0) == so).sum(), so.numel(), (~so).sum(), so.sum())


def _subsets_right(outputs: Any, y_BL: Tensor) -> Tensor:
    same = (fitting(outputs, y_BL) > 0) == (y_BL > 0)
    return _sums(same.flatten(1).all(1).sum(), len(y_BL))


def _hits(outputs: Any, y: Tensor) -> Tensor:
    said, so = fitting(outputs, y) > 0, y > 0
    return _sums((said & so).sum(), (said & ~so).sum(), (~said & so).sum())


def _f1(total: Tensor) -> float | None:
    hits, false, missed = total.tolist()
    return 2 * hits / (2 * hits + false + missed) if hits + false + missed else None


def _tokens_right(outputs: Any, y_BT: Tensor) -> Tensor:
    logits = logits_of(outputs)
    token_losses(logits[:1], y_BT[:1])  # the shapes fit, or it says so
    counts = y_BT >= 0
    right = _sums(((logits.argmax(-1) == y_BT) & counts).sum(), counts.sum())
    return torch.cat([right, _each(y_BT[counts], logits.shape[-1])])


def _surprise(outputs: Any, y_BT: Tensor) -> Tensor:
    total_B, tokens_B = token_losses(logits_of(outputs), y_BT)
    return _sums(total_B.double().sum(), tokens_B.sum())


def _next_surprise(outputs: Any, y_BT: Tensor) -> Tensor:
    return _surprise(*shifted(logits_of(outputs), y_BT))


def _perplexity(total: Tensor) -> float | None:
    nats, tokens = total.tolist()
    return math.exp(min(nats / tokens, 700.0)) if tokens else None


def _errors(outputs: Any, y: Tensor) -> Tensor:
    y_BK = y.double().reshape(len(y), -1)
    e_BK = fitting(outputs, y).double().reshape(len(y), -1) - y_BK
    count_K = torch.full_like(e_BK[0], len(y))
    return torch.stack([e_BK.square().sum(0), y_BK.sum(0), y_BK.square().sum(0), count_K])


def _rmse(total: Tensor) -> float | None:
    return math.sqrt(float(total[0].sum() / total[3].sum()))


def _rmse_of_mean(total: Tensor) -> float:
    _, sum_K, square_K, count_K = total
    spread = (square_K - sum_K.square() / count_K).clamp(min=0).sum()
    return math.sqrt(float(spread / count_K.sum()))


def _r2(total: Tensor) -> float | None:
    """The mean over targets of 1 − Σ(y − ŷ)²/Σ(y − ȳ)²."""
    error_K, sum_K, square_K, count_K = total
    spread_K = square_K - sum_K.square() / count_K
    if bool((spread_K <= 1e-12 * square_K).any()):
        return None
    return float((1 - error_K / spread_K).mean())


LARGEST = Baseline("the largest class", _largest)
ACCURACY = Measure(_classes_right, _share, LARGEST)
BINARY_ACCURACY = Measure(_binary_right, _share, LARGEST)
SUBSET_ACCURACY = Measure(_subsets_right, _share)
TOKEN_ACCURACY = Measure(_tokens_right, _share, Baseline("the commonest label", _largest))
F1 = Measure(_hits, _f1)
PERPLEXITY = Measure(_surprise, _perplexity)
NEXT_PERPLEXITY = Measure(_next_surprise, _perplexity)
RMSE = Measure(_errors, _rmse, Baseline("their mean", _rmse_of_mean))
R2 = Measure(_errors, _r2)
