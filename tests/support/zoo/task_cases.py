"""The table: what is trained on what, and the metrics that it publishes or why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.utils.data import TensorDataset

from tests.support.zoo.task_zoo import (
    IDS,
    LABELS,
    LENGTH,
    RNG,
    VOCABULARY,
    WIDTH,
    Branching,
    Items,
    N,
    Named,
    Pooled,
    Recurrent,
    Restless,
    Rows,
    Tokens,
    Translator,
    Two,
    X,
    bce,
    both,
    image_net,
    images,
    items,
    len_parity,
    linear,
    mapped,
    ragged,
    regression_and_label,
    spoilt,
    tied,
)


@dataclass
class Case:
    """What is trained, and the metrics that it must publish: or a word of its refusal."""

    model: Callable[[], nn.Module]
    data: Callable[[Path], dict[str, Any]]
    declared: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("accuracy",)
    refused: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def two(**declared: Any) -> dict[str, Any]:
    return {"classes": 2, **declared}


def tokens(task: str, **declared: Any) -> dict[str, Any]:
    return {"classes": VOCABULARY, "task": task, **declared}


FLOATS = torch.from_numpy(X)
TARGETS = torch.from_numpy(LABELS)
BITS = (X[:, :3] > 0).astype(np.int64)
LM: dict[str, Any] = {"metrics": ("perplexity",)}
BINARY: dict[str, Any] = {"declared": {"task": "binary"}, "metrics": ("accuracy", "f1")}
NUMBERS: dict[str, Any] = {"declared": {"task": "regression"}, "metrics": ("rmse", "r2")}
MANY: dict[str, Any] = {
    "declared": {"classes": 3, "task": "multi-label"},
    "metrics": ("f1", "subset_accuracy"),
}
MASKED = np.where(RNG.random(IDS.shape) < 0.5, IDS, -100)


CASES: dict[str, Case] = {
    # classification
    "tensors": Case(linear(), lambda _: both(FLOATS, TARGETS), two()),
    "arrays of doubles": Case(linear(), lambda _: both(X.astype(float), LABELS), two()),
    "labels of 8 bits": Case(linear(), lambda _: both(X, LABELS.astype(np.uint8)), two()),
    "a memory map": Case(linear(), lambda p: mapped(p, X, LABELS), two()),
    "items": Case(linear(), lambda _: items(Items, X, LABELS), two()),
    "a TensorDataset": Case(linear(), lambda _: items(TensorDataset, FLOATS, TARGETS), two()),
    "a folder of images": Case(image_net, images, two()),
    "bytes": Case(linear(), lambda _: both((40 * X + 128).astype(np.uint8), LABELS), two()),
    "lists of numbers": Case(linear(), lambda _: both(X.tolist(), LABELS.tolist()), two()),
    "tokens": Case(lambda: Pooled(2), lambda _: both(IDS, LABELS), two()),
    "tokens by name": Case(lambda: Pooled(2), lambda _: items(Rows, IDS, LABELS), two()),
    "a tree of inputs": Case(Two, lambda _: both((X, IDS), LABELS), two()),
    "a dict of inputs": Case(Two, lambda _: both({"numbers": X, "tokens": IDS}, LABELS), two()),
    "sequences padded": Case(lambda: Pooled(2), lambda _: ragged(len_parity), two(pad_to=LENGTH)),
    "a GRU": Case(Recurrent, lambda _: both(X, LABELS), two()),
    "one by one": Case(Branching, lambda _: both(X, LABELS), two()),
    "tied weights": Case(tied, lambda _: both(X, LABELS), {"classes": WIDTH}),
    "float64": Case(linear(dtype=torch.float64), lambda _: both(FLOATS.double(), TARGETS), two()),
    "bfloat16": Case(
        linear(dtype=torch.bfloat16), lambda _: both(FLOATS.bfloat16(), TARGETS), two()
    ),
    "weighted": Case(linear(), lambda _: both(X, LABELS, np.abs(X[:, 1])), two(weight_bound=9.0)),
    "a loss of torch's": Case(
        linear(), lambda _: both(X, LABELS), two(), options={"loss": nn.CrossEntropyLoss()}
    ),
    "a metric of scikit-learn's": Case(
        linear(),
        lambda _: both(X, LABELS),
        two(),
        ("accuracy", "balanced"),
        options={"metrics": {"balanced": lambda o, y: balanced_accuracy_score(y, o.argmax(1))}},
    ),
    "read by a process": Case(
        linear(), lambda p: mapped(p, X, LABELS), two(), options={"workers": 1}
    ),
    # other tasks
    "one logit": Case(linear(1), lambda _: both(X, LABELS), **BINARY),
    "one logit, flat": Case(
        lambda: nn.Sequential(nn.Linear(WIDTH, 1), nn.Flatten(0)),
        lambda _: both(X, LABELS),
        **BINARY,
    ),
    "one logit, own loss": Case(
        linear(1), lambda _: both(X, LABELS), **BINARY, options={"loss": bce}
    ),
    "several labels": Case(linear(3), lambda _: both(X, BITS), **MANY),
    "several labels on disk": Case(linear(3), lambda p: mapped(p, X, BITS), **MANY),
    "regression": Case(linear(1), lambda _: both(X, X[:, 0] * 2), **NUMBERS),
    "regression of vectors": Case(linear(2), lambda _: both(X, X[:, :2] * 2), **NUMBERS),
    "regression from items": Case(linear(1), lambda _: items(Items, X, X[:, 0]), **NUMBERS),
    "token classification": Case(
        lambda: Tokens(3),
        lambda _: both(IDS, np.where(IDS % 4 == 3, -100, IDS % 4)),
        {"classes": 3, "task": "token-classification"},
        ("token_accuracy",),
    ),
    "tokens classified, padded": Case(
        lambda: Tokens(3),
        lambda _: ragged(lambda s: [t % 3 for t in s]),
        {"classes": 3, "task": "token-classification", "pad_to": LENGTH},
        ("token_accuracy",),
    ),
    "causal": Case(
        Tokens, lambda _: {"train": IDS[:N], "test": IDS[N:]}, tokens("causal-lm"), **LM
    ),
    "causal, padded": Case(
        Tokens,
        lambda _: {k: v[0] for k, v in ragged(len).items()},
        tokens("causal-lm", pad_to=LENGTH),
        **LM,
    ),
    "causal, logits by name": Case(
        Named,
        lambda _: {"train": {"input_ids": IDS[:N]}, "test": {"input_ids": IDS[N:]}},
        tokens("causal-lm"),
        **LM,
    ),
    "masked": Case(Tokens, lambda _: both(IDS, MASKED), tokens("masked-lm"), **LM),
    "sequence to sequence": Case(
        Translator,
        lambda _: both((IDS, IDS[:, ::-1].copy()), IDS),
        tokens("seq2seq"),
        ("perplexity", "token_accuracy"),
    ),
    "a tree of targets": Case(
        linear(),
        lambda _: both(X, {"value": X[:, 0], "label": LABELS}),
        {"task": "other"},
        (),
        options={"loss": regression_and_label},
    ),
    # refused
    "one logit as classes": Case(
        linear(1), lambda _: both(X, LABELS), two(), refused="task 'binary'", options={"loss": bce}
    ),
    "floats, undeclared": Case(
        linear(1), lambda _: both(X, X[:, 0]), refused="regression or binary"
    ),
    "other, no loss": Case(
        linear(), lambda _: both(X, LABELS), {"task": "other"}, refused="no loss of its own"
    ),
    "no such task": Case(
        linear(), lambda _: both(X, LABELS), two(task="classify"), refused="no task"
    ),
    "classes not declared": Case(linear(), lambda _: both(X, LABELS), refused="number of classes"),
    "a label outside": Case(
        linear(), lambda _: both(X, spoilt(LABELS, 5)), two(), refused="lies outside 0…1"
    ),
    "a label outside, on disk": Case(
        linear(), lambda p: mapped(p, X, spoilt(LABELS, 5)), two(), refused="lies outside 0…1"
    ),
    "not finite, in items": Case(
        linear(), lambda _: items(Items, spoilt(X, np.nan), LABELS), two(), refused="not finite"
    ),
    "a token outside": Case(
        Tokens, lambda _: both(spoilt(IDS, 99), IDS), tokens("masked-lm"), refused="embedding"
    ),
    "no bit": Case(linear(1), lambda _: both(X, LABELS + 1), BINARY["declared"], refused="0 nor 1"),
    "sequences of several lengths": Case(
        Tokens, lambda _: ragged(list), tokens("token-classification"), refused="pad_to"
    ),
    "text": Case(linear(), lambda _: both(["a"] * len(X), LABELS), two(), refused="text"),
    "another record each time": Case(
        linear(), lambda _: items(Restless, X, LABELS), two(), refused="another record each time"
    ),
    "weights without a bound": Case(
        linear(), lambda _: both(X, LABELS, np.ones(len(X))), two(), refused="weight_bound"
    ),
    "a weight above its bound": Case(
        linear(), lambda _: both(X, LABELS, X[:, 0] ** 2 + 3), two(weight_bound=1.0), refused="0…1"
    ),
    "more outputs than targets": Case(
        linear(3), lambda _: both(X, X[:, 0]), NUMBERS["declared"], refused="one number for each"
    ),
    "a metric that fails": Case(
        linear(),
        lambda _: both(X, LABELS),
        two(),
        refused="metrics['auc']",
        options={"metrics": {"auc": lambda o, y: o.nonsense}},
    ),
    "class weights in a mean of one": Case(
        linear(),
        lambda _: both(X, LABELS),
        two(),
        refused="reduction='sum'",
        options={"loss": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 10.0]))},
    ),
    "a shared record": Case(
        linear(),
        lambda p: {**mapped(p, X, LABELS), "test": (X[:3], LABELS[:3])},
        two(),
        refused="shares records",
    ),
}
