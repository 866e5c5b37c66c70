"""What runs on a GPU alone; `make gpu` refuses without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Session

from benchmarks import gpu
from tests.support.device.watched_runs import ImageNet, images, settings_for

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def test_it_refuses_without_a_gpu(capsys: Any) -> None:
    assert gpu.main(available=lambda: False) == 2
    assert "torch sees none here" in capsys.readouterr().err


@on_a_gpu
@pytest.mark.parametrize("name", ["dpsgd", "adadpigu", "gep", "random-freeze", "dpsur"])
def test_a_preset_trains_on_a_gpu(name: str) -> None:
    settings = settings_for(name, device="cuda")
    with Session(PRESETS[name].plan(4), images(), ImageNet(), settings) as session:
        for step in session:
            step.apply()
        finite = all(bool(p.isfinite().all()) for p in session.model.parameters())
    assert session.reached == 4 and finite
