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


SCORES: Mapping[str, Score] = {"margin": margin}
"""Scores by the name that an audit's plan fixes."""


@torch.no_grad()
def scores_of(score: Score, model: nn.Module, x: Tensor, y: Tensor, batch: int = 1000) -> Tensor:
    """A model's scores of records and labels, float64 of shape (N,); the model as it stands."""
    batches = zip(torch.split(x, batch), torch.split(y, batch), strict=True)
    return torch.cat([score(model(x_B).double(), y_B) for x_B, y_B in batches])
