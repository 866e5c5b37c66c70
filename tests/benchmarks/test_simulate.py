"""The simulation of a private linear model is that model's training, but for its noise."""

from __future__ import annotations

import pytest
import torch
from dpigu.trainers.data import Data, DataSpec, Scaling, Tensors
from torch.nn import functional as F

from benchmarks.study.simulate import Trial, simulated

STEPS, RATE, MOMENTUM = 7, 0.8, 0.9


@pytest.fixture(scope="module")
def data() -> Data:
    draw = torch.Generator().manual_seed(0)
    x = 3 * torch.randn((60, 4), generator=draw) + 1
    y = (x @ torch.randn((4, 3), generator=draw)).argmax(1)
    spec = DataSpec("made-up", 40, 3, (4,), Scaling())
    return Data(spec, Tensors(x[:40], y[:40]), Tensors(x[40:], y[40:]))


@pytest.mark.parametrize("clip", (0.3, 100.0))
@pytest.mark.parametrize("centred", (False, True))
def test_without_noise_it_is_clipped_descent(data: Data, clip: float, centred: bool) -> None:
    """Against rows of autograd, one record at a time, on all records that are not held back."""
    model = torch.nn.Linear(4, 3)
    torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
    train, test = data.train_x, data.test_x
    if centred:
        mean = train.mean(0)
        scale = 10 / (train - mean).square().sum(1).mean().sqrt()
        train, test = (scale * (x - mean) for x in (train, test))
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for _ in range(STEPS):
        total = [torch.zeros_like(p) for p in model.parameters()]
        for x, y in zip(train, data.train_y, strict=True):
            loss = F.cross_entropy(model(x), y.long())
            row = torch.autograd.grad(loss, list(model.parameters()))
            norm = torch.sqrt(sum((part.square().sum() for part in row), torch.tensor(0.0)))
            factor = min(1.0, clip / max(float(norm), 1e-9))
            total = [t + factor * part for t, part in zip(total, row, strict=True)]
        with torch.no_grad():
            for weight, v, gradient in zip(model.parameters(), velocity, total, strict=True):
                v.mul_(MOMENTUM).add_(gradient / 40)
                weight.sub_(RATE * v)
    expected = float((model(test).argmax(1) == data.test_y).float().mean())
    trials = [Trial(float("inf"), STEPS, RATE, clip), Trial(float("inf"), 1, 5.0, 1.0)]
    found = simulated(data, batch=60.0, trials=trials, centred=centred)
    assert found[0] == pytest.approx(expected)
    assert 0 < found[1] <= 1


def test_less_privacy_is_less_noise(data: Data) -> None:
    """At ε = 0.1 nothing is left of what both budgets would learn; at ε = 10⁴ all of it is."""
    noisy, clear, none = simulated(
        data, batch=60.0, trials=[Trial.of(f"{e},40,1,1") for e in ("0.1", "10000", "inf")]
    )
    assert none > 0.8 and abs(clear - none) <= 0.1 and noisy < none
