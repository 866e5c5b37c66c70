"""A private run of a linear model on kept features, simulated: how a setting is chosen.

A row of softmax regression is (p − e_y) ⊗ (x, 1), of norm ‖p − e_y‖·√(‖x‖² + 1), so a clipped sum
is one product, and several settings share the records that it reads. It is scored on training
records that were held back, and it is no private run: batches are fixed parts of the records, the
mean that is taken off is their own, and the noise is torch's, from a seed. The noise is that of
all the records, also those held back, so that a setting is chosen for the run that it is meant for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dpigu.accountants import calibrate_noise_multiplier
from dpigu.trainers.data import Data
from dpigu.trainers.data.features import NORM
from torch import Tensor
from torch.nn import functional as F

DELTA, MOMENTUM = 1e-5, 0.9
_BLOCK = 2000


class Trial(NamedTuple):
    """A setting: ε (infinite: without noise), steps, a constant learning rate, and C."""

    epsilon: float
    steps: int
    learning_rate: float
    clip: float

    @classmethod
    def of(cls, text: str) -> Trial:
        """Read "ε,steps,rate,C", as 4,80,6,1 or inf,80,6,1."""
        epsilon, steps, rate, clip = text.split(",")
        return cls(float(epsilon), int(steps), float(rate), float(clip))


def simulated(
    data: Data,
    batch: float,
    trials: Sequence[Trial],
    *,
    centred: bool = True,
    records: int | None = None,
    seed: int = 0,
) -> list[float]:
    """The accuracy of each trial on the held-out records of `data`, whose inputs are vectors.

    Args:
        batch: expected, of `records`.
        centred: less the mean, at a norm of 10 on average, as `dpsgd-centred` does.
        records: of the run that a setting is for; those of `data`, held back or not, by default.
        seed: of the noise, of which every trial has its own part.
    """
    line = Line.of(data.train_x, centred)
    rate = batch / (len(data.train_x) + len(data.test_x) if records is None else records)
    weight = descended(data, line, rate, batch, trials, seed)
    right_NM = line.said(data.test_x, weight).argmax(2) == data.test_y.long()[:, None]
    found: list[float] = right_NM.float().mean(0).tolist()
    return found


class Line(NamedTuple):
    """Inputs as the linear model sees them, scale·(x − mean), without a copy of the records."""

    mean_D: Tensor
    scale: float

    @classmethod
    def of(cls, x_ND: Tensor, centred: bool) -> Line:
        if not centred:
            return cls(torch.zeros(x_ND.shape[1]), 1.0)
        mean_D = x_ND.mean(0)
        return cls(mean_D, NORM / float(_squares(x_ND, mean_D).mean()) ** 0.5)

    def said(self, x_BD: Tensor, weight: Tensor) -> Tensor:
        """Logits, B × trials × classes, of weights D + 1 × trials × classes, the bias last."""
        along = (x_BD @ weight[:-1].flatten(1)).view(-1, *weight.shape[1:])
        offset = torch.einsum("d,dmk->mk", self.mean_D, weight[:-1])
        return self.scale * (along - offset) + weight[-1]


def descended(
    data: Data, line: Line, rate: float, batch: float, trials: Sequence[Trial], seed: int
) -> Tensor:
    """The weights that each trial ends with, D + 1 × trials × classes, the bias last.

    Batches are equal parts of the records, by turns; what is left over is not used.
    """
    x_ND, y_N, classes = data.train_x, data.train_y.long(), data.spec.outputs
    norms_N = (_squares(x_ND, line.mean_D) * line.scale**2 + 1).sqrt()
    part = min(max(1, round(rate * len(x_ND))), len(x_ND))
    clip_M = torch.tensor([trial.clip for trial in trials])
    sigma_M = torch.tensor([_multiplier(trial, rate) for trial in trials]) * clip_M / batch
    draw = torch.Generator().manual_seed(seed)
    weight = torch.zeros(x_ND.shape[1] + 1, len(trials), classes)
    velocity = torch.zeros_like(weight)
    for step in range(max(trial.steps for trial in trials)):
        at = step % (len(x_ND) // part) * part
        x_BD, y_B, norm_B = (of_N[at : at + part] for of_N in (x_ND, y_N, norms_N))
        rest_BMK = line.said(x_BD, weight).softmax(2) - F.one_hot(y_B, classes)[:, None]
        norm_BM = rest_BMK.norm(dim=2) * norm_B[:, None]
        rest_BMK *= (clip_M / norm_BM).clamp(max=1)[:, :, None]
        bias_MK = rest_BMK.sum(0)
        along = (rest_BMK.flatten(1).T @ x_BD).T.reshape(-1, *bias_MK.shape)
        sum_DMK = line.scale * (along - line.mean_D[:, None, None] * bias_MK)
        gradient = torch.cat([sum_DMK, bias_MK[None]]) / part
        gradient += torch.randn(gradient.shape, generator=draw) * sigma_M[:, None]
        velocity = MOMENTUM * velocity + gradient
        rate_M = torch.tensor([trial.learning_rate * (step < trial.steps) for trial in trials])
        weight -= rate_M[:, None] * velocity
    return weight


def _squares(x_ND: Tensor, mean_D: Tensor) -> Tensor:
    """‖x − mean‖² of every record, some records at a time."""
    return torch.cat([(x_BD - mean_D).square().sum(1) for x_BD in x_ND.split(_BLOCK)])


def _multiplier(trial: Trial, rate: float) -> float:
    if math.isinf(trial.epsilon):
        return 0.0

    def event(multiplier: float) -> DpEvent:
        step = PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier))
        return SelfComposedDpEvent(step, trial.steps)

    return calibrate_noise_multiplier(event, trial.epsilon, DELTA, "prv")
