"""Models that torch.compile has wrapped, wholly or in part, train as they are."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import Phase, Pipeline, Plan, ReproducibleNoise
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers import Data, DataSpec, Scaling, Settings, Tensors, train
from torch import Tensor, nn

from tests.support.depth import DEEP

N = 12


def net(compiled: str = "nothing") -> nn.Module:
    torch.manual_seed(0)
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    if compiled == "a layer":
        first = torch.compile(first, backend="eager")  # type: ignore[assignment]
    model = nn.Sequential(first, nn.Tanh(), last)
    return torch.compile(model, backend="eager") if compiled == "all" else model  # type: ignore[return-value]


def weights(model: nn.Module) -> list[Tensor]:
    """Trained for two steps on all records with noise that is the same each time."""
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(N, 3, generator=draw), torch.arange(N) % 2
    data = Data(DataSpec("points", N, 2, (3,), Scaling()), Tensors(x, y), Tensors(x[:1] + 1, y[:1]))
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(noise_multiplier=1.0))
    settings = Settings(
        epsilon=None,
        delta=1e-5,
        noise_multiplier=1.0,
        expected_batch=float(N),
        learning_rate=0.5,
    )
    plan = Plan((Phase("main", pipeline, 2),))
    noise = ReproducibleNoise(3)
    run = train(plan, data, model, settings, noise=noise, progress=False)
    return [p.detach() for p in run.model.parameters()]


@pytest.mark.deep
@pytest.mark.skipif(not DEEP, reason="the compiler takes ten seconds to load")
@pytest.mark.parametrize("compiled", ["a layer", "all"])
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_trains_as_the_plain_one(compiled: str) -> None:
    for got, expected in zip(weights(net(compiled)), weights(net()), strict=True):
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
