"""A tiny run, and a bystander who counts what its kernels release."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from dp_accounting import ComposedDpEvent, DpEvent
from dpigu.dpcore import Kernel, Phase, Pipeline, Plan
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers import Data, DataSpec, Settings, Tensors
from dpigu.trainers.data import Scaling
from torch import nn

RECORDS = 40


def points() -> Data:
    """Two classes of points in the plane."""
    y = torch.arange(RECORDS + 10) % 2
    x = torch.stack([y * 2.0 - 1.0, torch.arange(RECORDS + 10) / RECORDS], 1)
    spec = DataSpec("points", RECORDS, 2, (2,), Scaling())
    return Data(spec, Tensors(x[:RECORDS], y[:RECORDS]), Tensors(x[RECORDS:], y[RECORDS:]))


def linear() -> nn.Module:
    return nn.Linear(2, 2)


def two_phases(steps: int) -> Plan:
    """Two phases of different noise, so that a charge of the wrong one shows."""
    first = Pipeline(Flat(bound=1.0), Gaussian(noise_multiplier=2.0))
    second = Pipeline(Flat(bound=1.0), Gaussian(noise_multiplier=1.0))
    return Plan((Phase("first", first, steps - steps // 2), Phase("second", second, steps // 2)))


def settings(**options: Any) -> Settings:
    chosen = {"noise_multiplier": 1.0, "rate": 0.2, "accountant": "rdp", "learning_rate": 0.1}
    return Settings(**{**chosen, "evaluations": 2, "device": "cpu", **options})


@dataclass
class Bystander:
    """Counts every release by what the kernel did, and knows nothing of ledgers."""

    events: list[DpEvent] = field(default_factory=list)

    @property
    def event(self) -> DpEvent:
        """What was released, composed."""
        return ComposedDpEvent(list(self.events))


@contextmanager
def watched(bystander: Bystander, sampler: Any) -> Iterator[None]:
    """Let the bystander see every release; the batch is sampled by `sampler`."""
    release = Kernel.release

    def seen(self: Kernel, states: Any, context: Any, batch: Any) -> Any:
        made = release(self, states, context, batch)
        bystander.events.append(sampler.event(self.pipeline.stages.event()))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "release", seen)
        patch.setattr("dpigu.trainers.runs.report.drawn", lambda *_: b"no picture")
        yield
