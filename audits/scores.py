"""Membership scores: what one model says of a record and a label; high means "it was in".

A score reads the model, the record and the label. It never reads a coin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Score = Callable[[Tensor, Tensor], Tensor]


def margin(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """φ = z_y − log Σ_{k≠y} e^{z_k}, the log odds of the label, shape (B,).

    Source: Carlini et al. 2022, "Membership Inference Attacks From First Principles", section
    IV-C, in its stable form.
    """
    at_B1 = labels_B[:, None]
    others_BK = logits_BK.scatter(1, at_B1, -torch.inf)
    return logits_BK.gather(1, at_B1)[:, 0] - others_BK.logsumexp(1)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """−Σ (output − target)² of each record, shape (B,)."""
    return -(outputs.reshape(len(outputs), -1) - targets.reshape(len(targets), -1)).square().sum(1)


def token_log_likelihood(logits_BTK: Tensor, labels_BT: Tensor) -> Tensor:
    """The mean log-probability of each record's tokens, shape (B,); labels of −100 are no tokens.

    It is −log of the record's perplexity.
    """
    return _token_log_probabilities(logits_BTK, labels_BT).nanmean(1)


def token_min_k(logits_BTK: Tensor, labels_BT: Tensor) -> Tensor:
    """The same of the fifth of a record's tokens that the model finds least likely, at least one.

    Source: Shi et al. 2024, "Detecting Pretraining Data from Large Language Models".
    """
    sorted_BT = _token_log_probabilities(logits_BTK, labels_BT).sort(1).values  # NaN last
    kept_B = ((labels_BT != IGNORED).sum(1) / 5).floor().clamp(min=1)
    first_BT = torch.arange(sorted_BT.shape[1], device=kept_B.device) < kept_B[:, None]
    return sorted_BT.masked_fill(~first_BT, torch.nan).nanmean(1)


def _token_log_probabilities(logits_BTK: Tensor, labels_BT: Tensor) -> Tensor:
    """log p of every token, NaN where there is none; shape (B, T)."""
    there_BT = labels_BT != IGNORED
    at_BT1 = labels_BT.where(there_BT, 0)[..., None]
    found_BT = logits_BTK.log_softmax(-1).gather(-1, at_BT1)[..., 0]
    return found_BT.masked_fill(~there_BT, torch.nan)


IGNORED = -100
"""The label of a place that has no token, as torch's losses have it."""
SCORES: Mapping[str, Score] = {
    "margin": margin,
    "squared-error": squared_error,
    "log-likelihood": token_log_likelihood,
    "min-k": token_min_k,
}
"""Scores by the name that an audit's plan fixes."""


@torch.no_grad()
def scores_of(score: Score, model: nn.Module, x: Tensor, y: Tensor, batch: int = 1000) -> Tensor:
    """A model's scores of records and labels, float64 of shape (N,); the model as it stands."""
    batches = zip(torch.split(x, batch), torch.split(y, batch), strict=True)
    return torch.cat([score(model(x_B).double(), y_B) for x_B, y_B in batches])
