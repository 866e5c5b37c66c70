"""Models beyond a chain of known layers: handled exactly, or refused with the remedy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from dpcore import ModelError, Space, Transform
from tests.trainers.ghost_cases import BATCH, Case, batch_of, loss, pair
from trainers import probe
from trainers.engine import Norms, trainable
from trainers.ghost import GhostEngine, reason_against


class TiedModules(nn.Module):
    """One weight in two layers, of which one sees a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self.step(x).tanh())


class TiedToEmbedding(nn.Module):
    """The output layer reads the table of the embedding directly, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(5, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.mix(self.table(x)).tanh(), self.table.weight)


class Attention(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.inner(x, x, x, attn_mask=mask, need_weights=False)[0]


class SequenceFirst(nn.Module):
    """Time first inside: attention and a linear layer see T × B × E."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.MultiheadAttention(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return self.out(self.inner(x, x, x)[0]).mean(0)


class Folded(nn.Module):
    """Windows folded into the batch: the layer sees (B·2) × 2 × 4."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.norm(x.reshape(-1, 2, 4))).reshape(len(x), -1)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.inner, self.out = kind(4, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(x)[0][:, -1])


class Direct(nn.Module):
    """Parameters held by the model itself, around a layer of a known type."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.scale = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.ones(1))
        self.mix = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.mix(x + self.place)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y += self.b(x)
        return F.relu(y, inplace=True)


class Normalised(nn.Linear):
    """A subclass that computes something else than its parent."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / self.weight.norm(), self.bias)


def _parametrized() -> nn.Module:
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    return nn.Sequential(layer, nn.Tanh())


def _encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)


def _frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


MODELS = {
    "tied modules": Case(TiedModules, (3, 4)),
    "called twice": Case(CalledTwice, (4,)),
    "tied to the embedding": Case(TiedToEmbedding, (3,), tokens=5),
    "attention": Case(Attention, (3, 4)),
    "sequence first": Case(SequenceFirst, (5, 4)),
    "folded": Case(Folded, (4, 4)),
    "encoder layer": Case(_encoder, (3, 4)),
    "lstm": Case(lambda: Recurrent(nn.LSTM), (3, 4), mapped=False),
    "gru": Case(lambda: Recurrent(nn.GRU), (3, 4), mapped=False),
    "direct parameters": Case(Direct, (3, 4)),
    "residual, in place": Case(Residual, (4,)),
    "subclass": Case(lambda: nn.Sequential(Normalised(4, 3), nn.Tanh()), (4,)),
    "parametrized": Case(_parametrized, (4,)),
    "frozen layer": Case(_frozen, (4,)),
    "in place after a sequence": Case(
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)), (1, 4)
    ),
}
BY_PRODUCT = {
    "tied to the embedding": {"table.weight"},
    "direct parameters": {"place", "scale"},
    "frozen layer": set(),
    "residual, in place": set(),
    "tied modules": set(),
    "called twice": set(),
    "folded": set(),
}


@pytest.mark.parametrize("transform", ["none", "scaled", "centred"])
@pytest.mark.parametrize("name", MODELS)
def test_rows_are_exact(name: str, transform: str) -> None:
    both = pair(MODELS[name], transform=transform)
    both.check()
    taken = {name for name, way in both.engine.choices().items() if "product" in way}
    assert taken == BY_PRODUCT.get(name, taken)


@pytest.mark.parametrize("name", ["tied modules", "encoder layer", "direct parameters"])
def test_every_grouping(name: str) -> None:
    pair(MODELS[name], transform="scaled", grouping="filter").check()
    pair(MODELS[name], grouping="parameter").check()


def test_a_parameter_read_behind_a_layer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the comparison against autograd switched off, tied rows come out wrong."""
    monkeypatch.setattr(probe, "_disagreeing", lambda *given: set())
    with pytest.raises(AssertionError):
        pair(MODELS["tied to the embedding"]).check()


def engine_of(model: nn.Module) -> GhostEngine:
    return GhostEngine(model, loss, Norms(None, 1), BATCH)


def rows_of(model: nn.Module, shape: tuple[int, ...]) -> object:
    """The rows of a batch of real records of this shape, or of one token each if it is ()."""
    space = Space.of(trainable(model))
    x_B, y_B, alive_B = batch_of(Case(lambda: model, shape, 0 if shape else 4), torch.float32, 0)
    transform = Transform(space, space, (), None)
    return engine_of(model).rows(trainable(model), x_B, y_B, alive_B, transform)


class Centred(nn.Module):
    """Subtracts the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x - x.mean(0))


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
        (Centred(), (4,), "within one record"),
        (Attention(dropout=0.5), (3, 4), "dropout"),
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
    x_B, y_B, alive_B = batch_of(Case(lambda: model, (4,)), torch.float32, 0)
    x_B = x_B.nan_to_num()
    engine = engine_of(model)
    engine.rows(trainable(model), x_B, y_B, alive_B, Transform(space, space, (), None))
    torch.manual_seed(5)
    rows = engine.rows(trainable(model), x_B, y_B, alive_B, Transform(space, space, (), None))
    torch.manual_seed(5)
    total = loss(model(x_B), y_B)[:4].sum()
    expected = torch.cat(
        [g.flatten() for g in torch.autograd.grad(total, list(model.parameters()))]
    )
    summed = rows.weighted_sum(alive_B[:, None].double())
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
    x_B, y_B, alive_B = batch_of(Case(lambda: model, (4,)), torch.float32, 0)
    with pytest.raises(ModelError, match="materialising"):
        engine_of(model).rows(trainable(model), x_B, y_B, alive_B, transform)


def test_autocast_rows_are_those_of_the_rounded_pass() -> None:
    """bfloat16 forward and backward, float32 rows: near the float32 ones, and norms still bound."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    space = Space.of(trainable(model))
    x_B, y_B, alive_B = batch_of(Case(lambda: model, (2, 5, 5)), torch.float32, 0)
    transform = Transform(space, space, (), None)
    engine = GhostEngine(model, loss, Norms(None, 1), BATCH, torch.bfloat16)
    low = engine.rows(trainable(model), x_B, y_B, alive_B, transform)
    full = engine_of(model).rows(trainable(model), x_B, y_B, alive_B, transform)
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
