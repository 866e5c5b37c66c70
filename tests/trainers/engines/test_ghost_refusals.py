"""What the fast engine refuses, and what a row is where a model is more than its layers."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import ModelError, Space, Transform
from dpigu.trainers.engines import GhostEngine, Norms, reason_against, trainable
from torch import Tensor, nn

from tests.support.zoo.ghost_cases import BATCH, Case, batch_of, loss, pair
from tests.trainers.engines.test_ghost_models import MODELS

pytestmark = pytest.mark.numerical


def engine_of(model: nn.Module) -> GhostEngine:
    return GhostEngine(model, loss, Norms(None, 1), BATCH)


def rows_of(model: nn.Module, shape: tuple[int, ...]) -> object:
    """The rows of a batch of real records of this shape, or of one token each if it is ()."""
    space = Space.of(trainable(model))
    x_B, y_B, valid_B = batch_of(Case(lambda: model, shape, 0 if shape else 4), torch.float32, 0)
    transform = Transform(space, space, (), None)
    return engine_of(model).rows(trainable(model), x_B, y_B, valid_B, transform)


class ChangedInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        y = self.mix(x)
        x += 1
        return y + x


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.idle(x)
        return self.used(x)


@pytest.mark.parametrize(
    ("model", "shape", "says"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), (4,), "GroupNorm"),
        (ChangedInPlace(), (4,), r"x = x \+ y"),
        (Unused(), (4,), "idle"),
        (nn.Sequential(nn.Embedding(4, 3, max_norm=1.0)), (), "max_norm"),
    ],
)
def test_what_has_no_row_is_refused_with_the_remedy(
    model: nn.Module, shape: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        rows_of(model, shape)


def test_dropout_between_layers_is_part_of_the_row() -> None:
    """The rows are those of the forward pass that ran, dropout included."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2))
    space = Space.of(trainable(model))
    x_B, y_B, valid_B = batch_of(Case(lambda: model, (4,)), torch.float32, 0)
    x_B = x_B.nan_to_num()
    engine = engine_of(model)
    engine.rows(trainable(model), x_B, y_B, valid_B, Transform(space, space, (), None))
    torch.manual_seed(5)
    rows = engine.rows(trainable(model), x_B, y_B, valid_B, Transform(space, space, (), None))
    torch.manual_seed(5)
    total = loss(model(x_B), y_B)[:4].sum()
    expected = torch.cat(
        [g.flatten() for g in torch.autograd.grad(total, list(model.parameters()))]
    )
    summed = rows.weighted_sum(valid_B[:, None].double())
    torch.testing.assert_close(summed, expected.double(), rtol=1e-5, atol=1e-6)


def test_the_given_weights_are_used() -> None:
    """Rows are taken at the weights handed in, not at the model's own."""
    case = MODELS["called twice"]
    torch.manual_seed(1)
    other = {name: torch.randn_like(p).double() for name, p in trainable(case.build()).items()}
    moved, own = pair(case, weights=other), pair(case)
    moved.check()
    assert not torch.allclose(moved.fast.norm_upper_bounds()[:4], own.fast.norm_upper_bounds()[:4])


@pytest.mark.parametrize("name", ["called twice", "tied to the embedding", "attention"])
def test_rows_need_no_gradients_to_be_on(name: str) -> None:
    both = pair(MODELS[name])
    with torch.no_grad():
        quiet = pair(MODELS[name])
        assert torch.equal(quiet.fast.norm_upper_bounds(), both.fast.norm_upper_bounds())


def test_randomness_is_left_alone() -> None:
    """Looking at a model draws nothing from the global generator."""
    torch.manual_seed(0)
    engine_free = torch.rand(3)
    torch.manual_seed(0)
    pair(MODELS["called twice"])
    assert torch.equal(torch.rand(3), engine_free)


def test_a_row_map_that_is_not_affine_goes_to_the_other_engine() -> None:
    class Sign:
        def output_space(self, space: Space) -> Space:
            return space

        def row(self, state: object, g_D: Tensor) -> Tensor:
            return g_D.sign()

    model = nn.Linear(4, 3)
    space = Space.of(trainable(model))
    transform = Transform(space, space, ((Sign(), {}),), None)
    assert "Sign" in str(reason_against(transform))
    x_B, y_B, valid_B = batch_of(Case(lambda: model, (4,)), torch.float32, 0)
    with pytest.raises(ModelError, match="materialising"):
        engine_of(model).rows(trainable(model), x_B, y_B, valid_B, transform)


def test_autocast_rows_are_those_of_the_rounded_pass() -> None:
    """bfloat16 forward and backward, float32 rows: near the float32 ones, and norms still bound."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    space = Space.of(trainable(model))
    x_B, y_B, valid_B = batch_of(Case(lambda: model, (2, 5, 5)), torch.float32, 0)
    transform = Transform(space, space, (), None)
    engine = GhostEngine(model, loss, Norms(None, 1), BATCH, torch.bfloat16)
    low = engine.rows(trainable(model), x_B, y_B, valid_B, transform)
    full = engine_of(model).rows(trainable(model), x_B, y_B, valid_B, transform)
    for i in range(4):
        one = torch.zeros(BATCH, 1, dtype=torch.float64)
        one[i] = 1
        row, exact = low.weighted_sum(one), full.weighted_sum(one)
        assert low.norm_upper_bounds()[i, 0] >= row.norm() * (1 - 1e-14)
        assert 1e-5 < (row - exact).norm() / exact.norm() < 0.1


def test_frozen_layers_and_a_support_without_them_form_nothing() -> None:
    """A layer off the support, and one that is not trained, have no statistic."""
    both = pair(MODELS["frozen layer"], transform="frozen")
    choices = both.engine.choices()
    assert choices["2.weight"].startswith("none")
    assert not choices["2.bias"].startswith("none")
    assert set(choices) == {"2.weight", "2.bias"}
