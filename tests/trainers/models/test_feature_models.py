"""Models on features: a channel's statistics are constants, and every head fits every shape."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.data import DataSpec, Scaling
from dpigu.trainers.models.feature_models import Centred, ChannelNorm
from dpigu.trainers.models.mixing import refuse_mixing_modules
from dpigu.trainers.models.registry import build_model

pytestmark = pytest.mark.numerical

HEADS = ("scattering-linear", "scattering-cnn")


def spec(*shape: int) -> DataSpec:
    return DataSpec("features", 100, 7, shape, Scaling())


@pytest.mark.parametrize("shape", [(81, 2, 2), (81, 7, 7), (243, 8, 8), (5, 4, 3)])
@pytest.mark.parametrize("name", [f"{head}{end}" for head in HEADS for end in ("", "-channels")])
def test_a_head_gives_one_output_a_class_from_its_record_alone(
    name: str, shape: tuple[int, ...]
) -> None:
    model = build_model(name, spec(*shape), seed=0)
    refuse_mixing_modules(model)
    x = torch.rand(3, *shape)
    together = model(x)
    assert together.shape == (3, 7)
    x[1:] = float("nan")
    torch.testing.assert_close(model(x)[0], together[0])


@pytest.mark.parametrize("name", HEADS)
def test_a_head_refuses_records_without_channels(name: str) -> None:
    with pytest.raises(ModelError, match="takes features with channels"):
        build_model(name, spec(64), seed=0)


def test_the_papers_linear_head_is_a_regression_on_normalised_features() -> None:
    model = build_model("scattering-linear", spec(81, 7, 7), seed=0)
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == {
        "linear.weight": (7, 81 * 49),
        "linear.bias": (7,),
    }


def test_channel_norm_is_the_identity_until_it_is_fitted() -> None:
    x = torch.randn(4, 5, 3, 3)
    assert torch.equal(ChannelNorm(5)(x), x)


def test_channel_norm_gives_mean_0_and_variance_1_at_the_true_moments() -> None:
    x = torch.randn(50, 5, 3, 3) * torch.arange(1.0, 6.0)[:, None, None] + 2
    norm = ChannelNorm(5)
    norm.mean.copy_(x.mean((0, 2, 3)))
    norm.square.copy_(x.square().mean((0, 2, 3)))
    y = norm(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.square().mean((0, 2, 3)), torch.ones(5), rtol=0, atol=1e-4)


def test_a_channel_whose_noisy_variance_is_not_above_the_floor_is_left_out() -> None:
    norm = ChannelNorm(3, floor=1e-3)
    norm.mean.copy_(torch.tensor([0.5, 0.5, 0.5]))
    norm.square.copy_(torch.tensor([0.25, 0.2, 0.2502]))
    assert torch.equal(norm(torch.randn(2, 3, 4)), torch.zeros(2, 3, 4))


def test_centred_records_have_no_mean_and_norm_ten_on_average() -> None:
    """At the true moments; before they are known, records are as they are."""
    x = torch.randn(200, 6) * torch.arange(1.0, 7.0) + 3
    norm = Centred(6)
    torch.testing.assert_close(norm(x), x)
    norm.mean.copy_(x.mean(0))
    norm.square.copy_(x.square().mean(0))
    y = norm(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.square().sum(1).mean(), torch.tensor(100.0))
