"""Metrics are what scikit-learn says they are, however the records are cut into batches."""

from __future__ import annotations

import math

import pytest
import torch
from dpigu.dpcore import ConfigurationError
from dpigu.trainers.tasks import TASKS, Measured, Metric, measured, told
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx
from sklearn import metrics as sklearn
from sklearn.dummy import DummyClassifier
from torch import Tensor
from torch.nn import functional as F


def of(task: str, outputs: Tensor, y: Tensor, size: int) -> Measured:
    batches = zip(torch.split(outputs, size), torch.split(y, size), strict=True)
    return measured(TASKS[task].metrics, batches)


def values(task: str, outputs: Tensor, y: Tensor, size: int) -> dict[str, float | None]:
    return of(task, outputs, y, size).values


seeds, counts, sizes = st.integers(0, 10**6), st.integers(3, 30), st.integers(1, 9)


@given(seeds, counts, sizes)
def test_classes_and_bits(seed: int, count: int, size: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(count, 4, generator=draw)
    y = torch.randint(4, (count,), generator=draw)
    found = values("classification", outputs, y, size)
    assert found["accuracy"] == approx(sklearn.accuracy_score(y, outputs.argmax(1)))
    bits = torch.randint(2, (count, 4), generator=draw)
    bits[0, 0] = 1
    said = (outputs > 0).long()
    many = values("multi-label", outputs, bits, size)
    assert many["f1"] == approx(sklearn.f1_score(bits, said, average="micro"))
    assert many["subset_accuracy"] == approx(sklearn.accuracy_score(bits, said))
    one = values("binary", outputs[:, :1], bits[:, 0], size)
    assert one["accuracy"] == approx(sklearn.accuracy_score(bits[:, 0], said[:, 0]))
    assert one["f1"] == approx(sklearn.f1_score(bits[:, 0], said[:, 0]))


@given(seeds, counts, sizes)
def test_numbers(seed: int, count: int, size: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    y = torch.randn(count, 2, generator=draw, dtype=torch.float64)
    outputs = y + torch.randn(count, 2, generator=draw, dtype=torch.float64)
    found = values("regression", outputs, y, size)
    assert found["r2"] == approx(sklearn.r2_score(y, outputs))
    assert found["rmse"] == approx(math.sqrt(sklearn.mean_squared_error(y, outputs)))


@given(seeds, counts, sizes)
def test_tokens(seed: int, count: int, size: int) -> None:
    """Perplexity is exp of the mean over all tokens that count, not over records."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 5, 7, generator=draw)
    y = torch.randint(7, (count, 5), generator=draw)
    y[torch.rand(y.shape, generator=draw) < 0.4] = -100
    y[0, 1] = 3
    nats = F.cross_entropy(logits.flatten(0, 1), y.flatten())
    assert values("masked-lm", logits, y, size)["perplexity"] == approx(math.exp(nats))
    later = F.cross_entropy(logits[:, :-1].flatten(0, 1), y[:, 1:].flatten())
    assert values("causal-lm", logits, y, size)["perplexity"] == approx(math.exp(later))
    right = (logits.argmax(2) == y)[y != -100].float().mean()
    named = values("token-classification", logits, y, size)
    assert named["token_accuracy"] == approx(float(right))


def test_what_is_not_defined_is_none_and_said_so() -> None:
    y = torch.ones(3)
    assert values("regression", y, y, 2)["r2"] is None and told("r2", None) == "undefined"
    nothing = torch.full((2, 3), -100)
    assert values("masked-lm", torch.zeros(2, 3, 4), nothing, 2)["perplexity"] is None


class Fed:
    """Like a metric of torchmetrics."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right, self.count = 0, 0

    def update(self, outputs: Tensor, y: Tensor) -> None:
        self.right += int((outputs.argmax(1) == y).sum())
        self.count += len(y)

    def compute(self) -> float:
        return self.right / self.count


@pytest.mark.parametrize("metric", (Fed(), lambda o, y: sklearn.accuracy_score(y, o.argmax(1))))
def test_a_metric_of_the_user_s(metric: Metric) -> None:
    outputs, y = torch.eye(3), torch.tensor([0, 1, 1])
    for _ in range(2):  # measured twice, the second time from the start
        batches = [(outputs[:2], y[:2]), (outputs[2:], y[2:])]
        assert measured({"mine": metric}, batches) == ({"mine": approx(2 / 3)}, {})


def test_a_metric_that_gives_no_number_is_one_line() -> None:
    with pytest.raises(ConfigurationError, match="gives no number"):
        measured({"mine": lambda o, y: "good"}, [(torch.eye(2), torch.arange(2))])


@given(seeds, counts, sizes)
def test_a_baseline_is_the_best_single_answer(seed: int, count: int, size: int) -> None:
    """No constant does better than the baseline, and one does as well."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=draw)
    logits = torch.randn(count, 3, generator=draw)
    found = of("classification", logits, y, size).baselines["accuracy"]
    dummy = DummyClassifier().fit(logits, y)
    assert found == {"answer": "the largest class", "value": approx(dummy.score(logits, y))}
    bits = (y == 0).float()
    two = of("binary", logits[:, :1], bits, size).baselines["accuracy"]["value"]
    assert two == approx(max(float(bits.mean()), 1 - float(bits.mean())))
    numbers = torch.randn(count, 2, generator=draw, dtype=torch.float64)
    mean = of("regression", logits[:, :2], numbers, size).baselines["rmse"]["value"]
    same = numbers.mean(0).expand(count, 2)
    assert mean == approx(values("regression", same, numbers, size)["rmse"])
    tokens = torch.where(logits > 0, y[:, None], -100)
    tokens[0, 0] = 2
    shares = torch.bincount(tokens[tokens >= 0]) / (tokens >= 0).sum()
    many = of("token-classification", torch.randn(count, 3, 4), tokens, size).baselines
    assert many["token_accuracy"]["value"] == approx(float(shares.max()))


def test_no_baseline_without_a_target_that_counts() -> None:
    none = torch.full((2, 3), -100)
    assert of("token-classification", torch.randn(2, 3, 4), none, 1).baselines == {}
