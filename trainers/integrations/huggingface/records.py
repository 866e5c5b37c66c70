"""What a `Trainer` was given, as records, task and loss of a private run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from dpigu.dpcore import ConfigurationError, DataError
from dpigu.trainers.data import Data, data_from
from dpigu.trainers.data.sources.padding import Padding
from dpigu.trainers.tasks import Task
from torch import Tensor
from transformers import default_data_collator

HEADS = (
    ("CausalLM", "causal-lm"),
    ("MaskedLM", "masked-lm"),
    ("TokenClassification", "token-classification"),
    ("SequenceClassification", "classification"),
    ("ImageClassification", "classification"),
    ("MultipleChoice", "classification"),
)
LANGUAGE = ("causal-lm", "masked-lm")
PADS = ("default_data_collator", "DataCollatorWithPadding", "DefaultDataCollator")


def task_of(model: Any) -> str:
    """The task that a model has a head for.

    Errors: `ConfigurationError` for a head that says nothing.
    """
    model = getattr(model, "base_model", model).model if hasattr(model, "peft_config") else model
    problem = getattr(model.config, "problem_type", None)
    for ending, task in HEADS:
        if type(model).__name__.endswith("For" + ending):
            if task == "classification" and problem == "multi_label_classification":
                return "multi-label"
            alone = task == "classification" and model.config.num_labels == 1
            return "regression" if alone or problem == "regression" else task
    if type(model).__name__.endswith("LMHeadModel"):
        return "causal-lm"
    raise ConfigurationError(
        "nothing says what this model is trained for",
        where="PrivateTrainer",
        got=type(model).__name__,
        remedy="Declare it: task=….",
    )


def data_of(
    train: Any, test: Any, model: Any, task: str | Task, records: int, **declared: Any
) -> Data:
    """The records that a `Trainer` was given.

    Args:
        declared: `pad_to`, `pad_token`, `target` of `data_from`.

    Errors: `DataError` where there are no held-out records, or records do not fit.
    """
    if test is None:
        raise DataError(
            "there is no held-out record to evaluate on",
            where="eval_dataset",
            remedy="Give eval_dataset; its records are public.",
        )
    if isinstance(test, Mapping):
        test = next(iter(test.values()))
    name, config = str(task), model.config
    classes = config.vocab_size if name in LANGUAGE else getattr(config, "num_labels", None)
    if name in ("regression", "binary", "other"):
        classes = None
    return data_from(
        train=train, test=test, records=records, classes=classes, task=task, **declared
    )


def refuse_collator(collator: Any, task: str | Task) -> None:
    """An error for a collator that makes more of a record than its padded self.

    Errors: `ConfigurationError`.
    """
    name = getattr(collator, "__name__", type(collator).__name__)
    plain = name in PADS or (
        name == "DataCollatorForLanguageModeling" and not collator.mlm and str(task) == "causal-lm"
    )
    if not plain:
        raise ConfigurationError(
            "the collator sees a batch, and a private run meets one record at a time",
            where="data_collator",
            got=name,
            expected=", ".join(PADS),
            remedy="Do its work on the data set (map), and declare pad_to.",
        )


@dataclass(frozen=True)
class Padder:
    """A collator for evaluation: every record padded or cut as it is in training."""

    padding: Padding
    targets: tuple[str, ...]

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        rows = []
        for item in items:
            row = {name: torch.as_tensor(value) for name, value in item.items()}
            y = {name: row.pop(name) for name in self.targets if name in row}
            rows.append({**self.padding.inputs(row), **self.padding.targets(y)})
        batch: dict[str, Any] = default_data_collator(rows)
        return batch


def loss_of(given: Callable[..., Tensor] | None) -> Callable[[Any, Any], Tensor] | None:
    """A user's `compute_loss_func`, of one record; None takes the task's own."""
    return None if given is None else partial(_called, given)


def _called(function: Callable[..., Tensor], outputs: Any, labels: Any) -> Tensor:
    """Without `num_items_in_batch`, which is a count of private records."""
    return function(outputs, labels)
