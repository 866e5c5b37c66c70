"""Training accuracy is a release like any other: bounded by 1, noised, charged, near the truth."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.dpcore import GrammarError, Plan, PoissonSampler, Record
from dpigu.mechanisms import Correctness, dpsgd, non_private, training_accuracy
from dpigu.trainers import Data, DataSpec, Scaling, Settings, Tensors, train
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

RECORDS = 400
SETTINGS = Settings(
    noise_multiplier=1.0,
    rate=0.25,
    accountant="rdp",
    learning_rate=0.2,
    evaluations=1,
    device="cpu",
)


def data() -> Data:
    draw = torch.Generator().manual_seed(3)
    y = torch.arange(RECORDS + 50) % 2
    x = torch.randn(len(y), 2, generator=draw) + 1.0 * (2 * y[:, None] - 1)
    spec = DataSpec("points", RECORDS, 2, (2,), Scaling())
    return Data(spec, Tensors(x[:RECORDS], y[:RECORDS]), Tensors(x[RECORDS:], y[RECORDS:]))


def run(plan: Plan, model: nn.Module | None = None, **changes: Any):
    settings = dataclasses.replace(SETTINGS, **changes)
    model = nn.Linear(2, 2) if model is None else model
    return train(plan, data(), model, settings, progress=False)


def true_accuracy(model: nn.Module) -> float:
    whole = data()
    return float((model(whole.train_x).argmax(1) == whole.train_y).double().mean())


@given(
    outputs=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=5),
    y=st.integers(0, 4),
)
def test_a_row_has_norm_one_whatever_the_model_says(outputs: list[float], y: int) -> None:
    z_2 = row(torch.tensor(outputs), torch.tensor(y))
    assert sorted(z_2.tolist()) == [0.0, 1.0]


def row(outputs: Tensor, y: Tensor) -> Tensor:
    nothing = torch.zeros(1)
    record = Record(nothing, y, lambda at_D: nothing, lambda: nothing, lambda: outputs)
    return Correctness().row_of({}, record)


@pytest.mark.parametrize(
    ("outputs", "y"), [(torch.zeros(1), 0), (torch.zeros(3, 2), 0), (torch.zeros(3), [0, 1])]
)
def test_what_is_no_class_has_no_accuracy(outputs: Tensor, y: Any) -> None:
    with pytest.raises(GrammarError, match="one output for each class"):
        row(outputs, torch.tensor(y))


def test_the_interval_holds_the_accuracy_of_the_training_split() -> None:
    """Of 40 runs at 95% confidence at least 33 do (fewer has a probability below 0.001)."""
    plan, held = training_accuracy(dpsgd(3), steps=4), 0
    for _ in range(40):
        done = run(plan)
        told = done.summary["statistics"]["training-accuracy"]
        held += told["low"] <= true_accuracy(done.model) <= told["high"]
        assert told["high"] - told["low"] < 0.35
    assert held >= 33


@given(share=st.floats(0.02, 0.98), rate=st.floats(0.01, 0.5), steps=st.integers(1, 20))
def test_the_interval_is_as_wide_as_the_formula(share: float, rate: float, steps: int) -> None:
    sampler, noise = PoissonSampler(rate, 10_000), 1e-4
    state = {
        "sum_2": steps * torch.tensor([share, 1 - share], dtype=torch.float64),
        "variance_2": steps * torch.full((2,), noise, dtype=torch.float64),
        "steps": torch.tensor(float(steps)),
    }
    told = Correctness().reported(state, sampler)
    n = steps * rate * 10_000
    variance = (1 - rate) * (share * (1 - share) + 1 / n) / n
    variance += noise * ((1 - share) ** 2 + share**2) / steps
    assert told["estimate"] == pytest.approx(share)
    assert told["low"] == pytest.approx(max(0, share - 1.96 * math.sqrt(variance)))
    assert told["high"] == pytest.approx(min(1, share + 1.96 * math.sqrt(variance)))


def test_noise_that_drowns_the_counts_tells_nothing() -> None:
    state = {
        "sum_2": torch.tensor([1.0, -3.0], dtype=torch.float64),
        "variance_2": torch.ones(2, dtype=torch.float64),
        "steps": torch.tensor(1.0),
    }
    told = Correctness().reported(state, PoissonSampler(0.1, 100))
    assert (told["low"], told["high"]) == (0.0, 1.0)


def test_it_is_charged_and_trains_nothing() -> None:
    plan = training_accuracy(dpsgd(3), steps=5, noise=2.0)
    assert [(p.name, p.steps) for p in plan.phases] == [("main", 3), ("training-accuracy", 5)]
    assert plan.phases[1].pipeline.noiser.noise_multiplier == 2.0
    without, measured = run(dpsgd(3)), run(plan)
    assert measured.summary["epsilon"] > without.summary["epsilon"]
    assert measured.summary["steps"] == 8 and measured.summary["private"] is True
    frozen = nn.Linear(2, 2)
    before = [p.clone() for p in frozen.parameters()]
    run(Plan((plan.phases[1],)), frozen)
    assert all(torch.equal(p, b) for p, b in zip(frozen.parameters(), before, strict=True))


def test_the_model_is_looked_at_as_it_predicts() -> None:
    """With dropout off: a net that drops nearly everything is as right as it is."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.99))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-9.0, -9.0], [9.0, 9.0]]))
        model[0].bias.zero_()
    plan = training_accuracy(non_private(1), steps=3)
    told = run(plan, model, noise_multiplier=None, rate=1.0, learning_rate=1e-6).summary
    found = told["statistics"]["training-accuracy"]["estimate"]
    assert found == pytest.approx(true_accuracy(model.eval()))


def test_the_average_of_the_weights_is_what_is_measured() -> None:
    plan = training_accuracy(non_private(6), steps=1)
    options = {"noise_multiplier": None, "rate": 1.0, "average": "ema", "learning_rate": 0.5}
    done = run(plan, **options)
    found = done.summary["statistics"]["training-accuracy"]["estimate"]
    assert found == pytest.approx(true_accuracy(done.model))


def test_the_statement_names_it_as_noised(tmp_path: Path) -> None:
    plan = training_accuracy(dpsgd(3))
    train(plan, data(), nn.Linear(2, 2), SETTINGS, out=tmp_path / "run", progress=False)
    text = (tmp_path / "run/public/STATEMENT.txt").read_text()
    assert "Measured with noise and charged: training-accuracy, " in text


@pytest.mark.parametrize("noise", [0.0, -1.0, math.inf])
def test_noise_of_nothing_is_refused(noise: float) -> None:
    with pytest.raises(GrammarError, match="above 0"):
        training_accuracy(dpsgd(3), noise=noise)
    with pytest.raises(GrammarError, match="share a name"):
        training_accuracy(training_accuracy(dpsgd(3)))
