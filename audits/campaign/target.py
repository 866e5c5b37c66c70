"""The records whose membership is told, and the weights that every training starts from.

A claim of DP holds for every record and every initial model, so an audit may take the worst. What
a campaign trains is told from the final model alone.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from dpigu.audits.scores import SCORES, scores_of
from dpigu.dpcore import DataError, PoissonSampler
from dpigu.trainers import Data, Tensors
from dpigu.trainers.tasks import CLASSIFICATION
from numpy.typing import NDArray
from torch import Tensor, nn

STEPS, LEARNING_RATE = 300, 0.01
"""Of the public training that makes the initial weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """K records x with their labels, and the initial model; told by their margins."""

    x: Tensor
    labels: tuple[int, ...]
    model: nn.Module

    @property
    def count(self) -> int:
        """K."""
        return len(self.labels)

    def planted(
        self, data: Data, inside_K: NDArray[np.bool_], sampler: PoissonSampler
    ) -> tuple[Data, None]:
        """The data with the records that are in; the run samples them with the rest."""
        joins_K = torch.from_numpy(inside_K)
        x = torch.cat([data.train_x, self.x[joins_K]])
        y = torch.cat([data.train_y, data.train_y.new_tensor(self.labels)[joins_K]])
        return dataclasses.replace(data, train=Tensors(x, y)), None

    def scores(self, model: nn.Module) -> Tensor:
        """The margins of all records, shape (K,)."""
        return scores_of(SCORES["margin"], model, self.x, torch.tensor(self.labels))

    def identity(self) -> str:
        """Records and labels."""
        return repr((self.labels, self.x.flatten().tolist()))


def crafted_targets(
    data: Data, model: nn.Module, *, count: int = 1, worst_case: bool = True
) -> Targets:
    """Records that are 0 but on a coordinate each that the data hardly vary on, and where to start.

    There, where every other record has nearly the same value, a target has the end of the declared
    range that is farther from it. In a linear model the other records then move a target's own
    logits by Σr·(1 + v·x) for the sum r of their residuals and their common value v there: by
    nothing where v·x = −1, as with digits, whose corners are −1.

    The worst-case initial weights fit the held-out records, so that records like them have small
    gradients, and are sure that target j is of class 2j, where its label is 2j + 1. In a linear
    model its row is then (e_2j − e_2j+1) ⊗ (x_j, 1) at every step, as long as a row may be, and
    orthogonal to every other target's.

    Args:
        data: its held-out split is public, and trains the initial weights.
        model: untrained; it is not changed.
        count: K.
        worst_case: as above; otherwise the model's own weights, and for each target the label that
            they think least likely.

    Raises: DataError for data that are no classification of one tensor a record, or for more
        targets than pairs of classes or coordinates.
    Source: Annamalai and De Cristofaro 2024 (arXiv 2405.14106) for the initial weights.
    """
    if data.spec.task != CLASSIFICATION or not isinstance(data.train_x, Tensor):
        raise DataError("a crafted record needs a classification of tensors", where=data.spec.name)
    most = min((data.spec.classes or 0) // 2, data.train_x[0].numel())
    if not 1 <= count <= most:
        raise DataError("too many crafted records", got=count, expected=f"1 to {most}")
    start = copy.deepcopy(model)
    x_KD = _crafted(data, count)
    if worst_case:
        rivals_K = data.train_y.new_tensor([2 * j for j in range(count)])
        fit(start, data, x_KD, rivals_K)
        labels = tuple(2 * j + 1 for j in range(count))
    else:
        with torch.no_grad():
            labels = tuple(start.eval()(x_KD).argmin(1).tolist())
    return Targets(x=x_KD, labels=labels, model=start.eval())


def _crafted(data: Data, count: int) -> Tensor:
    scaling = data.spec.scaling
    ends = scaling.apply(torch.tensor([0.0, float(scaling.divisor)]).numpy())
    low, high = float(ends[0]), float(ends[1])
    flat_ND = data.train_x.reshape(len(data.train_x), -1)
    x_KD = torch.full((count, flat_ND.shape[1]), min(max(0.0, low), high))
    for j, place in enumerate(flat_ND.std(0).argsort(stable=True)[:count].tolist()):
        common = float(flat_ND[:, place].mean())
        x_KD[j, place] = high if abs(high - common) >= abs(low - common) else low
    return x_KD.reshape(count, *data.train_x.shape[1:])


def fit(model: nn.Module, data: Data, x: Tensor, labels: Tensor) -> None:
    """Train on public records and on records of our own, in full batches, without noise."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    cost = nn.functional.cross_entropy
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        total = cost(model(data.test_x), data.test_y)
        if len(labels):
            total = total + cost(model(x), labels)
        torch.autograd.backward(total)
        optimizer.step()
    optimizer.zero_grad()
