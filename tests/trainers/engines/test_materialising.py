"""The materialising engine forms exactly one record's gradient in each row."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import ModelError, Space, Transform
from dpigu.trainers.engines import (
    LossOfOne,
    MaterialisingEngine,
    Norms,
    Traced,
    trace,
    trainable,
)
from dpigu.trainers.phases.slots import microbatches
from dpigu.trainers.tasks.losses import cross_entropy
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

pytestmark = pytest.mark.numerical


def small_model(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()


def records(count: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 4, 4, generator=draw, dtype=torch.float64)
    return x, torch.randint(0, 3, (count,), generator=draw)


def identity(space: Space) -> Transform:
    return Transform(space, space, (), None)


def gradient_of_one(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One record's gradient by plain autograd, one record at a time."""
    loss = nn.functional.cross_entropy(model(x[None]).float(), y[None])
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@given(seed=st.integers(0, 10**6), count=st.integers(1, 7), padding=st.integers(0, 3))
def test_a_row_is_the_gradient_of_its_own_record(seed: int, count: int, padding: int) -> None:
    model = small_model(seed)
    x, y = records(count + padding, seed)
    valid_B = torch.arange(count + padding) < count
    engine = MaterialisingEngine(model, cross_entropy, Norms(None, 1), count + padding)
    space = Space.of(trainable(model))
    rows = engine.rows(trainable(model), x, y, valid_B, identity(space))
    norms_BG = rows.norm_upper_bounds()
    factors_BG = torch.where(valid_B[:, None], torch.rand(count + padding, 1).double(), 0.0)
    want = sum(factors_BG[i, 0] * gradient_of_one(model, x[i], y[i]) for i in range(count))
    torch.testing.assert_close(rows.weighted_sum(factors_BG), want, rtol=1e-5, atol=1e-6)
    for i in range(count):
        true = gradient_of_one(model, x[i], y[i]).norm()
        torch.testing.assert_close(norms_BG[i, 0], true, rtol=1e-5, atol=1e-7)
    assert bool((norms_BG[count:] == torch.inf).all())


def test_randomness_of_the_model_is_drawn_for_each_record() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
    engine = MaterialisingEngine(model, cross_entropy, Norms(None, 1), 8)
    x, y = torch.ones(8, 64), torch.zeros(8, dtype=torch.int64)
    rows = engine.rows(
        trainable(model),
        x,
        y,
        torch.ones(8, dtype=torch.bool),
        identity(Space.of(trainable(model))),
    )
    assert len(rows.norm_upper_bounds().unique()) > 1


@given(count=st.integers(0, 30), size=st.integers(1, 9))
def test_microbatches_hold_every_index_once_and_have_one_size(count: int, size: int) -> None:
    import numpy as np

    indices = np.arange(count) * 3
    pieces = list(microbatches(indices, size, torch.device("cpu")))
    assert all(len(at) == len(valid) == size for at, valid in pieces)
    kept = [int(i) for at, valid in pieces for i in at[valid]]
    assert kept == list(indices)


def tried(model: nn.Module, shape: tuple[int, ...]) -> Traced:
    """What made-up records of this shape show of a model."""
    y = torch.zeros(1, dtype=torch.int64)
    return trace(LossOfOne(model, cross_entropy), trainable(model), torch.zeros(1, *shape), y)


def test_a_parameter_without_a_gradient_is_named() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Linear(4, 2)
            self.idle = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    with pytest.raises(ModelError, match=r"idle\.weight.*requires_grad_"):
        tried(Idle(), (4,))


def test_a_model_for_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot take one record"):
        tried(nn.Linear(4, 2), (5,))
