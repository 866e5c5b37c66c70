"""The default losses of a record, by task: outputs and targets of a batch to B numbers.

Outputs are a tensor, or anything that has one as `logits` (the outputs of Hugging Face models).
Half precision is widened to float32; float64 stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from dpigu.dpcore import ModelError
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100
"""A target that does not count: padding, or a token that is not masked (torch's `ignore_index`)."""


def logits_of(outputs: Any) -> Tensor:
    """The tensor in a model's outputs, in float32 or wider.

    Errors: `ModelError` for outputs without one.
    """
    found = outputs.get("logits") if isinstance(outputs, Mapping) else outputs
    found = getattr(found, "logits", found)
    if not isinstance(found, Tensor):
        raise ModelError(
            "the task's own loss and metrics want a tensor, or outputs that have one as `logits`",
            where="outputs",
            got=type(outputs).__name__,
            remedy="Give a `loss`, and the task 'other' with `metrics`, for outputs of this kind.",
        )
    return found.float() if found.dtype in (torch.float16, torch.bfloat16) else found


def fitting(outputs: Any, y_B: Tensor) -> Tensor:
    """The outputs in the shape of the targets, where they are as many: never broadcast.

    Errors: `ModelError` for another number of outputs than targets.
    """
    found = logits_of(outputs)
    if found.numel() != y_B.numel() or found.shape[:1] != y_B.shape[:1]:
        raise ModelError(
            "the model does not put out one number for each target",
            where="outputs",
            got=tuple(found.shape[1:]),
            expected=tuple(y_B.shape[1:]) or "one number a record",
        )
    return found.reshape(y_B.shape)


def weights_cancel(loss: Any) -> bool:
    """Whether a loss has class weights, and divides those of a batch by their sum."""
    weighs = isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and loss.weight is not None
    return weighs and loss.reduction == "mean"


def cross_entropy(outputs: Any, y_B: Tensor) -> Tensor:
    """One cross-entropy a record, in nats."""
    return F.cross_entropy(logits_of(outputs), y_B, reduction="none")


def binary_cross_entropy(outputs: Any, y: Tensor) -> Tensor:
    """The mean over a record's labels of the cross-entropy of one logit each, in nats."""
    logits = fitting(outputs, y)
    losses = F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="none")
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def squared_error(outputs: Any, y: Tensor) -> Tensor:
    """The mean over a record's targets of the squared error."""
    values = fitting(outputs, y)
    errors = (values - y.to(values.dtype)).square()
    return errors.flatten(1).mean(1) if errors.dim() > 1 else errors


def token_cross_entropy(outputs: Any, y_BT: Tensor) -> Tensor:
    """The mean cross-entropy over the tokens of a record that count, in nats; 0 where none does."""
    total_B, tokens_B = token_losses(logits_of(outputs), y_BT)
    return total_B / tokens_B.clamp_min(1)


def next_token_cross_entropy(outputs: Any, y_BT: Tensor) -> Tensor:
    """The same for the token after each position: targets are the record's own tokens."""
    total_B, tokens_B = token_losses(*shifted(logits_of(outputs), y_BT))
    return total_B / tokens_B.clamp_min(1)


def shifted(logits_BTC: Tensor, y_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Every position's outputs beside the token that comes next."""
    return logits_BTC[:, :-1], y_BT[:, 1:]


def token_losses(logits_BTC: Tensor, y_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Per record: the cross-entropies of the tokens that count, summed, and how many those are.

    Errors: `ModelError` for outputs that are not one row of logits a token.
    """
    if logits_BTC.dim() != 3 or logits_BTC.shape[:2] != y_BT.shape:
        raise ModelError(
            "the model does not put out one row of logits for each token",
            where="outputs",
            got=tuple(logits_BTC.shape[1:]),
            expected=(*y_BT.shape[1:], "classes"),
        )
    counts_BT = y_BT != IGNORED
    known = y_BT.clamp_min(0).flatten()
    losses = F.cross_entropy(logits_BTC.flatten(0, 1), known, reduction="none").view(y_BT.shape)
    return torch.where(counts_BT, losses, 0).sum(1), counts_BT.sum(1)


def weighted(loss: Any, outputs: Any, target: tuple[Tensor, Tensor]) -> Tensor:
    """A record's weight times its loss, whatever the loss returns: (B,), or the mean of one."""
    y, weight_B = target
    found: Tensor = loss(outputs, y)
    return found * weight_B.reshape(found.shape)
