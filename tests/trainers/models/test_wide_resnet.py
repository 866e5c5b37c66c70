"""Standardised convolutions, their rows on both engines, and the wide residual nets."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.data import SPECS, DataSpec, Scaling
from dpigu.trainers.models.registry import build_model
from dpigu.trainers.models.wide_resnet import WSConv2d, standardised, wide_resnet
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.support.zoo.ghost_cases import Case, pair

pytestmark = pytest.mark.numerical

TINY = DataSpec("tiny", 100, 3, (2, 6, 6), Scaling())


def small() -> nn.Module:
    """A standardised convolution with stride and bias, after and before a norm."""
    return nn.Sequential(
        WSConv2d(2, 4, 3, stride=2, padding=1),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        WSConv2d(4, 3, 1, bias=False),
        nn.Flatten(),
        nn.Linear(27, 2),
    )


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4), st.floats(0.3, 30.0))
def test_every_channel_has_mean_0_and_norm_1_whatever_its_weights_are(
    seed: int, out: int, channels: int, size: float
) -> None:
    """To the 1e-4 under the root; neither scale nor shift of a channel's weights matters."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, channels, 3, 3, generator=draw, dtype=torch.float64)
    flat = standardised(size * weight).flatten(1)
    assert bool((flat.mean(1).abs() < 1e-12).all())
    torch.testing.assert_close(flat.norm(dim=1), torch.ones(out).double(), rtol=1e-3, atol=0)
    torch.testing.assert_close(
        flat, standardised(100 * size * weight + 5.0).flatten(1), rtol=1e-3, atol=1e-3
    )


def test_the_layer_is_a_convolution_with_the_standardised_weights() -> None:
    layer, x = WSConv2d(2, 4, 3, stride=2, padding=1), torch.randn(3, 2, 6, 6)
    weight = standardised(layer.weight)
    expected = nn.functional.conv2d(x, weight, layer.bias, stride=2, padding=1)
    assert torch.equal(layer(x), expected)
    plain = nn.functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)
    assert not torch.allclose(layer(x), plain, atol=0.01)


def test_a_constant_channel_gives_no_nan() -> None:
    assert bool((standardised(torch.ones(2, 3, 3, 3)) == 0).all())


@pytest.mark.parametrize("transform", ["none", "scaled", "centred"])
def test_both_engines_form_the_same_rows_of_a_standardised_convolution(transform: str) -> None:
    """Differentiated a record at a time: no rule of the plain convolution is misapplied."""
    both = pair(Case(small, (2, 6, 6)), transform=transform)
    both.check()
    apart = {name for name, way in both.engine.choices().items() if "at a time" in way}
    assert apart == {"0.weight", "0.bias", "3.weight"}


def test_both_engines_agree_on_a_wide_residual_net() -> None:
    pair(Case(lambda: wide_resnet(TINY, 10, 1), TINY.shape), grouping="layer").check()


@pytest.mark.parametrize(("name", "count"), [("wrn-10-1", 77_850), ("wrn-16-4", 2_748_890)])
def test_parameter_counts(name: str, count: int) -> None:
    """16·width, 32·width, 64·width channels, 1 or 2 blocks a stage; counted by hand for CIFAR."""
    model = build_model(name, SPECS["cifar10"], seed=0)
    assert sum(p.numel() for p in model.parameters()) == count


def test_records_that_are_no_images_are_refused() -> None:
    with pytest.raises(ModelError, match="takes images"):
        build_model("wrn-10-1", DataSpec("table", 100, 3, (5,), Scaling()), 0)
