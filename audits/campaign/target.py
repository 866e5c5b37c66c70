"""The record whose membership is told, and the weights that every training starts from.

A claim of DP holds for every record and every initial model, so an audit may take the worst.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from dpigu.dpcore import DataError
from dpigu.trainers import Data
from dpigu.trainers.tasks import CLASSIFICATION
from torch import Tensor, nn

STEPS, LEARNING_RATE = 300, 0.01
"""Of the public training that makes the initial weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A record x with its label, and the initial model."""

    x: Tensor
    label: int
    model: nn.Module


def crafted_target(data: Data, model: nn.Module, *, worst_case: bool = True) -> Target:
    """A record that is 0 but on the coordinate that the data vary least on, and where to start.

    On that coordinate, where every other record has nearly the same value, the record has the end
    of the declared range that is farther from it. In a linear model the other records then move
    the record's own logits by Σr·(1 + v·x) for the sum r of their residuals and their common value
    v there: by nothing where v·x = −1, as with digits, whose corner is −1. The label is the one
    that the initial model thinks least likely, which makes the gradient large.

    Args:
        data: its held-out split is public, and trains the initial weights.
        model: untrained; it is not changed.
        worst_case: start from weights that fit the held-out records, so that the records of the
            training split have small gradients and the crafted one a large one.

    Raises: DataError for data that are no classification of one tensor a record.
    Source: Annamalai and De Cristofaro 2024 (arXiv 2405.14106) for the initial weights.
    """
    if data.spec.task != CLASSIFICATION or not isinstance(data.train_x, Tensor):
        raise DataError("a crafted record needs a classification of tensors", where=data.spec.name)
    start = copy.deepcopy(model)
    if worst_case:
        _fit(start, data.test_x, data.test_y)
    x = _crafted(data)
    with torch.no_grad():
        label = int(start.eval()(x[None])[0].argmin())
    return Target(x=x, label=label, model=start)


def _crafted(data: Data) -> Tensor:
    scaling = data.spec.scaling
    ends = scaling.apply(torch.tensor([0.0, float(scaling.divisor)]).numpy())
    low, high = float(ends[0]), float(ends[1])
    flat_ND = data.train_x.reshape(len(data.train_x), -1)
    place = int(flat_ND.std(0).argmin())
    common = float(flat_ND[:, place].mean())
    x_D = torch.full((flat_ND.shape[1],), min(max(0.0, low), high))
    x_D[place] = high if abs(high - common) >= abs(low - common) else low
    return x_D.reshape(data.train_x.shape[1:])


def _fit(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Train on public records, in full batches, without noise."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(x), y))
        optimizer.step()
    optimizer.zero_grad()
    model.eval()
