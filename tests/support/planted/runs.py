"""Trainings that publish more than their releases say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers import Data, Run, Session, train
from dpigu.trainers.phases.phase import RunningPhase
from torch import Tensor, nn

from tests.audits.replay.test_replay import RECORDS, raw_gradients
from tests.support.laws.data import linear, settings_of

PLAN = Plan((Phase("main", Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian()), 3),))
SETTINGS = replace(settings_of(), expected_batch=0.85 * RECORDS, evaluations=2)


class Normalised(nn.Module):
    """A linear model behind a normalisation by statistics that it is given."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.linear = linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear((x - self.mean) / self.deviation)  # type: ignore[no-any-return]


def normalised_by_its_own_data(data: Data, out: Path) -> Run:
    """The mean and deviation of the training records, without noise, in the published model."""
    model = Normalised(data.train_x.mean(0), data.train_x.std(0))
    return train(PLAN, data, model, SETTINGS, out=out, progress=False)


def begins_at_the_class_counts(data: Data, out: Path) -> Run:
    """The bias begins at the logarithm of the classes' counts."""
    model = linear()
    counts = torch.bincount(data.train_y, minlength=2)
    model.bias.data = (counts / len(data.train_y)).log()
    return train(PLAN, data, model, SETTINGS, out=out, progress=False)


def stops_when_the_data_say(data: Data, out: Path) -> Run:
    """Early stopping by the training records: those that are far out train longer."""
    last = 3 if float(data.train_x.abs().max()) > 20 else 2
    with Session(PLAN, data, linear(), SETTINGS, out=out) as session:
        for step in session:
            step.apply()
            if step.number == last:
                break
    return Run(session.model, session.summary, None)


def keeps_the_weights_that_fit_best(data: Data, out: Path) -> Run:
    """Of all steps' weights, those with the least training loss on the farthest record."""
    kept: list[tuple[float, dict[str, Tensor]]] = []
    far = int(data.train_x.abs().sum(1).argmax())
    with Session(PLAN, data, linear(), SETTINGS) as session:
        for step in session:
            step.apply()
            score = float(session.model(data.train_x[far][None])[0, 0].detach())
            state = {k: v.clone() for k, v in session.model.state_dict().items()}
            kept.append((score, state))
        best = min(kept, key=lambda pair: pair[0])[1]
        model = linear()
        model.load_state_dict({k: best[k] for k in model.state_dict()})
    return Run(model, {"training score": min(kept, key=lambda pair: pair[0])[0]}, None)


def decay_by_the_raw_gradient(patch: pytest.MonkeyPatch) -> None:
    """Weights shrink by a factor that knows the gradient without noise."""
    update = RunningPhase.update

    def leaking(self: Any, optimizer: Any, parameters: Any, *rest: Any) -> bool:
        raw = raw_gradients(parameters, self._prepared.data)
        kept = update(self, optimizer, parameters, *rest)
        for p, g in zip(parameters.values(), raw, strict=True):
            p.data.mul_(1 - 1e-3 * float(g.norm()))
        return kept

    patch.setattr(RunningPhase, "update", leaking)
