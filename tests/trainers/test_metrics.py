"""Metrics are what scikit-learn says they are, however the records are cut into batches."""

from __future__ import annotations

import math

import pytest
import torch
from dpigu.dpcore import ConfigurationError
from dpigu.trainers.tasks import TASKS, Metric, measured, told
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from torch import Tensor
from torch.nn import functional as F


def values(task: str, outputs: Tensor, y: Tensor, size: int) -> dict[str, float | None]:
    batches = zip(torch.split(outputs, size), torch.split(y, size), strict=True)
    return measured(TASKS[task].metrics, batches)


seeds, counts, sizes = st.integers(0, 10**6), st.integers(3, 30), st.integers(1, 9)


@given(seeds, counts, sizes)
def test_classes_and_bits(seed: int, count: int, size: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(count, 4, generator=draw)
    y = torch.randint(4, (count,), generator=draw)
    found = values("classification", outputs, y, size)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(y, outputs.argmax(1)))
    bits = torch.randint(2, (count, 4), generator=draw)
    bits[0, 0] = 1
    said = (outputs > 0).long()
    many = values("multi-label", outputs, bits, size)
    assert many["f1"] == pytest.approx(sklearn.f1_score(bits, said, average="micro"))
    assert many["subset_accuracy"] == pytest.approx(sklearn.accuracy_score(bits, said))
    one = values("binary", outputs[:, :1], bits[:, 0], size)
    assert one["accuracy"] == pytest.approx(sklearn.accuracy_score(bits[:, 0], said[:, 0]))
    assert one["f1"] == pytest.approx(sklearn.f1_score(bits[:, 0], said[:, 0]))


@given(seeds, counts, sizes)
def test_numbers(seed: int, count: int, size: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    y = torch.randn(count, 2, generator=draw, dtype=torch.float64)
    outputs = y + torch.randn(count, 2, generator=draw, dtype=torch.float64)
    found = values("regression", outputs, y, size)
    assert found["r2"] == pytest.approx(sklearn.r2_score(y, outputs))
    assert found["rmse"] == pytest.approx(math.sqrt(sklearn.mean_squared_error(y, outputs)))


@given(seeds, counts, sizes)
def test_tokens(seed: int, count: int, size: int) -> None:
    """Perplexity is exp of the mean over all tokens that count, not over records."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 5, 7, generator=draw)
    y = torch.randint(7, (count, 5), generator=draw)
    y[torch.rand(y.shape, generator=draw) < 0.4] = -100
    y[0, 1] = 3
    nats = F.cross_entropy(logits.flatten(0, 1), y.flatten())
    assert values("masked-lm", logits, y, size)["perplexity"] == pytest.approx(math.exp(nats))
    later = F.cross_entropy(logits[:, :-1].flatten(0, 1), y[:, 1:].flatten())
    assert values("causal-lm", logits, y, size)["perplexity"] == pytest.approx(math.exp(later))
    right = (logits.argmax(2) == y)[y != -100].float().mean()
    named = values("token-classification", logits, y, size)
    assert named["token_accuracy"] == pytest.approx(float(right))


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
        assert measured({"mine": metric}, [(outputs[:2], y[:2]), (outputs[2:], y[2:])]) == {
            "mine": pytest.approx(2 / 3)
        }


def test_a_metric_that_gives_no_number_is_one_line() -> None:
    with pytest.raises(ConfigurationError, match="gives no number"):
        measured({"mine": lambda o, y: "good"}, [(torch.eye(2), torch.arange(2))])
