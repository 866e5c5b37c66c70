"""The memory of a step of many weights: float64 vectors as long as the weights, at its peak."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import devices
from dpigu.mechanisms import adadpigu, dpsgd
from dpigu.trainers import Session
from dpigu.trainers.data.making import data_from
from torch import nn

from tests.support.device.emulation import Emulation, device
from tests.support.device.watched_runs import settings_for

WIDTH, N, HELD = 520, 8, 4


@pytest.mark.parametrize(("make", "most"), [(dpsgd, 5), (adadpigu, 9)])
def test_long_vectors_at_the_peak_of_a_step(
    make: object, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wide layer, whose rows are never formed: what is left is the kernel's and the stages'."""
    device()
    monkeypatch.setattr(devices, "PIECE_ON_DEVICE", 2**14)
    x, y = torch.randn(N + HELD, WIDTH), torch.arange(N + HELD) % 2
    data = data_from(train=(x[:N], y[:N]), test=(x[N:], y[N:]), records=N, classes=2)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2))
    size = sum(p.numel() for p in model.parameters())
    settings = settings_for(expected_batch=4, physical_batch=2)
    with Emulation(long=size // 2) as emulation:
        with Session(make(4), data, model, settings) as session:  # type: ignore[operator]
            for step in session:
                step.apply()
                counts = emulation.anew()
        assert counts.peak <= most * 8 * size, counts.at_peak
