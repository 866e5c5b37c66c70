"""A small data set and settings for laws that run the trainer."""

from __future__ import annotations

import torch
from dpigu.trainers import Data, DataSpec, Settings, Tensors
from dpigu.trainers.data import Scaling
from torch import nn

RECORDS = 120


def points(seed: int = 7, scale: float = 1.0) -> Data:
    """Two classes of points in the plane."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(RECORDS + 40) % 2
    x = scale * (torch.randn(len(y), 2, generator=draw) + 3.0 * (2 * y[:, None] - 1))
    spec = DataSpec("points", RECORDS, 2, (2,), Scaling())
    return Data(spec, Tensors(x[:RECORDS], y[:RECORDS]), Tensors(x[RECORDS:], y[RECORDS:]))


def linear() -> nn.Module:
    """A model for them, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(2, 2)


def settings_of() -> Settings:
    """Plain settings: the plan's own multipliers, RDP, one device."""
    return Settings(
        noise_multiplier=1.0,
        expected_batch=30.0,
        accountant="rdp",
        learning_rate=0.1,
        evaluations=4,
        device="cpu",
    )
