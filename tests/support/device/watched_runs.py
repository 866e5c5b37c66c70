"""Short runs on the emulated device, and what was seen in each of their steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from dpigu.dpcore import Plan
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Data, Session, Settings
from dpigu.trainers.data.making import data_from
from dpigu.trainers.models.feature_models import ChannelNorm
from torch import nn

from tests.support.device.emulation import NAME, Counts, Emulation, device

N, HELD, SIDE = 24, 4, 6


@dataclass(frozen=True)
class WatchedStep:
    """One step: its phase, its number there from 0, and what was seen until it was applied."""

    phase: str
    number: int
    counts: Counts


def watched(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, **given: Any
) -> list[WatchedStep]:
    """A run's steps, each with what lay between the end of the one before and its own."""
    device()
    seen: list[WatchedStep] = []
    with Emulation() as emulation, Session(plan, data, model, settings, **given) as session:
        for step in session:
            step.apply()
            same = sum(s.phase == step.phase for s in seen)
            seen.append(WatchedStep(step.phase, same, emulation.anew()))
        assert session.reached == plan.steps
    return seen


def settings_for(preset: str | None = None, **changes: Any) -> Settings:
    """Those of a run on the emulated device, with what the preset needs."""
    training: Mapping[str, Any] = PRESETS[preset].training if preset is not None else {}
    known = set(Settings.__dataclass_fields__)
    wanted = {key: value for key, value in training.items() if key in known}
    chosen: dict[str, Any] = {
        "noise_multiplier": 1.0,
        "accountant": "rdp",
        "expected_batch": N / 2,
        "physical_batch": 9,
        "evaluations": 1,
        "learning_rate": 0.01,
        "device": NAME,
    }
    return Settings(**{**chosen, **wanted, **changes})


def images() -> Data:
    """Small images of two channels, in three classes."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn((N + HELD, 2, SIDE, SIDE), generator=draw)
    y = torch.randint(3, (N + HELD,), generator=draw)
    return data_from(train=(x[:N], y[:N]), test=(x[N:], y[N:]), records=N, classes=3)


class ImageNet(nn.Module):
    """Fitted buffers, a convolution, a parameter of nobody's layer, and two linear maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = ChannelNorm(2)
        self.conv, self.group = nn.Conv2d(2, 4, 3, stride=2), nn.GroupNorm(2, 4)
        self.hidden, self.head = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.group(self.conv(self.norm(x))))
        return self.head(torch.relu(self.hidden(x.flatten(1))))


class SmallNet(nn.Module):
    """Fitted buffers and two linear maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = ChannelNorm(2)
        self.hidden, self.head = nn.Linear(2 * SIDE * SIDE, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.hidden(self.norm(x).flatten(1))))


def public_images() -> Data:
    """Images that nobody protects: of the same shapes, and none of the same."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn((N + HELD, 2, SIDE, SIDE), generator=draw)
    y = torch.randint(3, (N + HELD,), generator=draw)
    return data_from(train=(x[:N], y[:N]), test=(x[N:], y[N:]), records=N, classes=3, name="public")
