"""A small data set and a small plan, for tests of the loop."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers import Data, DataSpec, Settings
from dpigu.trainers.data.dataset import Scaling
from torch import nn

RECORDS = 120


@pytest.fixture
def data() -> Data:
    """Two classes of points in the plane, well apart."""
    draw = torch.Generator().manual_seed(7)
    y = torch.arange(RECORDS + 40) % 2
    x = torch.randn(len(y), 2, generator=draw) + 3.0 * (2 * y[:, None] - 1)
    spec = DataSpec("points", RECORDS, 2, (2,), Scaling())
    return Data(spec, x[:RECORDS], y[:RECORDS], x[RECORDS:], y[RECORDS:])


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(2, 2)


@pytest.fixture
def plan() -> Plan:
    return Plan((Phase("main", Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian()), 12),))


@pytest.fixture
def settings() -> Settings:
    return Settings(
        noise_multiplier=1.0,
        expected_batch=30.0,
        accountant="rdp",
        learning_rate=0.1,
        evaluations=4,
        device="cpu",
    )
