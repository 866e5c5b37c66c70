"""The simulation of a private linear model is that model's training, but for its noise."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dpigu.accountants import get_accountant
from dpigu.trainers.data import Data, DataSpec, Scaling, Tensors
from torch.nn import functional as F

from benchmarks.study.__main__ import main
from benchmarks.study.simulate import Line, Trial, descended, simulated

MOMENTUM = 0.9


@pytest.fixture(scope="module")
def data() -> Data:
    draw = torch.Generator().manual_seed(0)
    x = 3 * torch.randn((60, 4), generator=draw) + 1
    y = (x @ torch.randn((4, 3), generator=draw)).argmax(1)
    spec = DataSpec("made-up", 40, 3, (4,), Scaling())
    return Data(spec, Tensors(x[:40], y[:40]), Tensors(x[40:], y[40:]))


def descent(data: Data, line: Line, trial: Trial) -> torch.Tensor:
    """The weights after clipped descent with rows of autograd, one record at a time."""
    model = torch.nn.Linear(4, 3)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    weights = list(model.parameters())
    velocity = [torch.zeros_like(weight) for weight in weights]
    for _ in range(trial.steps):
        total = [torch.zeros_like(weight) for weight in weights]
        for x, y in zip(line.scale * (data.train_x - line.mean_D), data.train_y, strict=True):
            row = torch.autograd.grad(F.cross_entropy(model(x), y.long()), weights)
            norm = float(torch.cat([part.flatten() for part in row]).norm())
            factor = min(1.0, trial.clip / max(norm, 1e-9))
            total = [t + factor * part for t, part in zip(total, row, strict=True)]
        with torch.no_grad():
            for weight, v, gradient in zip(weights, velocity, total, strict=True):
                v.mul_(MOMENTUM).add_(gradient / len(data.train_x))
                weight.sub_(trial.learning_rate * v)
    return torch.cat([model.weight.detach().T, model.bias.detach()[None]])


@pytest.mark.parametrize("centred", (False, True))
def test_without_noise_it_is_clipped_descent(data: Data, centred: bool) -> None:
    """To rounding, for settings that run side by side and do not end together."""
    line = Line.of(data.train_x, centred)
    if centred:
        seen = line.scale * (data.train_x - data.train_x.mean(0))
        torch.testing.assert_close(seen.square().sum(1).mean(), torch.tensor(100.0))
    trials = [Trial.of("inf,7,0.8,0.3"), Trial.of("inf,3,0.05,4"), Trial.of("inf,5,0.02,1000")]
    found = descended(data, line, 1.0, 60.0, trials, seed=0)
    for at, trial in enumerate(trials):
        torch.testing.assert_close(found[:, at], descent(data, line, trial), atol=1e-5, rtol=1e-4)
    weight = descent(data, line, trials[0])
    said = line.scale * (data.test_x - line.mean_D) @ weight[:-1] + weight[-1]
    expected = float((said.argmax(1) == data.test_y).float().mean())
    assert simulated(data, 60.0, trials, centred=centred)[0] == pytest.approx(expected)


def test_noise_is_what_the_budget_asks_for(data: Data) -> None:
    """One step on records without inputs: the weights are noise of σ·C·rate/batch, its own for each
    trial, and σ is PRV's. That of 6,000 draws is 8% away never (nine deviations)."""
    length, batch = 2000, 30.0
    blank = Data(
        DataSpec("blank", 40, 3, (length,), Scaling()),
        Tensors(torch.zeros(40, length), data.train_y),
        Tensors(torch.zeros(20, length), data.test_y),
    )
    trials = [Trial(2.0, 1, 4.0, 0.5), Trial(2.0, 1, 4.0, 0.5), Trial(0.5, 1, 1.0, 2.0)]
    line = Line(torch.zeros(length), 1.0)
    noise = descended(blank, line, 0.5, batch, trials, seed=0)[:-1]
    for at, trial in enumerate(trials):
        sigma = float(noise[:, at].std()) * batch / (trial.clip * trial.learning_rate)
        for multiplier, kept in ((1.08 * sigma, True), (0.92 * sigma, False)):
            step = PoissonSampledDpEvent(0.5, GaussianDpEvent(multiplier))
            event = SelfComposedDpEvent(step, 1)
            value = get_accountant("prv").epsilon(event, 1e-5).value
            assert value is not None and (value <= trial.epsilon) is kept
    assert not torch.equal(noise[:, 0], noise[:, 1])


@pytest.mark.parametrize(
    "given, told",
    (
        (["4,80"], "got 4,80, expected ε,STEPS,RATE,C"),
        (["4,8,1,1", "--batch", "9000"], "got 9000, expected at most 1500 records"),
        (["4,8,1,1", "--features", "scattering"], "got scattering, of 81×2×2; expected vectors"),
    ),
)
def test_what_cannot_be_simulated_is_refused_in_one_line(given: list[str], told: str) -> None:
    options = ["--data", "digits", "--features", "even-scattering"]
    said = CliRunner().invoke(main, ["simulate", *options, *given])
    assert said.exit_code == 1 and told in said.output
