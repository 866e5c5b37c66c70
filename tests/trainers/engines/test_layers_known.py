"""Every layer type's rows are torch.func's, on the layer's own path and not the fall-back."""

from __future__ import annotations

import pytest
import torch
from dpigu.trainers.engines.layers import kinds
from torch import Tensor, nn

from tests.support.zoo.ghost_cases import GROUPINGS, TRANSFORMS, Case, pair

pytestmark = pytest.mark.numerical


def _net(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def _conv(kind: type[nn.Module], **options: object) -> Case:
    dims = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[kind]
    shape = (4, *((7, 6, 5)[:dims]))
    return Case(lambda: _net(kind(4, 6, **options), nn.Tanh()), shape)


CASES = {
    "linear": Case(lambda: _net(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (5,)),
    "linear, no bias": Case(lambda: _net(nn.Linear(5, 4, bias=False)), (5,)),
    "linear, sequence": Case(lambda: _net(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (6, 5)),
    "linear, two sequence axes": Case(lambda: _net(nn.Linear(5, 4)), (2, 3, 5)),
    "linear, few positions and wide": Case(lambda: _net(nn.Linear(40, 30)), (2, 40)),
    "conv1d": _conv(nn.Conv1d, kernel_size=3),
    "conv2d": _conv(nn.Conv2d, kernel_size=3, stride=2, padding=1),
    "conv2d, one channel": Case(lambda: _net(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh()), (1, 5, 5)),
    "conv2d, dilated": _conv(nn.Conv2d, kernel_size=(2, 3), dilation=(3, 2), padding=(0, 2)),
    "conv2d, groups": _conv(nn.Conv2d, kernel_size=3, groups=2),
    "conv2d, depthwise and pointwise": Case(
        lambda: _net(nn.Conv2d(4, 4, 3, groups=4, padding="same"), nn.Conv2d(4, 3, 1)), (4, 5, 5)
    ),
    "conv2d, one position": _conv(nn.Conv2d, kernel_size=(7, 6), groups=2),
    "conv2d, same": _conv(nn.Conv2d, kernel_size=(4, 3), padding="same", dilation=(1, 2)),
    "conv2d, valid": _conv(nn.Conv2d, kernel_size=2, padding="valid", bias=False),
    "conv2d, reflect": _conv(nn.Conv2d, kernel_size=3, padding=2, padding_mode="reflect"),
    "conv2d, circular": _conv(nn.Conv2d, kernel_size=3, padding=1, padding_mode="circular"),
    "conv1d, replicate": _conv(nn.Conv1d, kernel_size=3, padding=2, padding_mode="replicate"),
    "conv3d": _conv(nn.Conv3d, kernel_size=(3, 2, 2), stride=(1, 2, 1), padding=(1, 0, 1)),
    "embedding": Case(lambda: _net(nn.Embedding(7, 3), nn.Tanh()), (6,), tokens=7),
    "embedding, padding": Case(lambda: _net(nn.Embedding(3, 4, padding_idx=1)), (6,), tokens=3),
    "layer norm": Case(lambda: _net(nn.LayerNorm(5), nn.Linear(5, 2)), (4, 5)),
    "layer norm, two axes": Case(lambda: _net(nn.LayerNorm((4, 5), bias=False)), (3, 4, 5)),
    "rms norm": Case(lambda: _net(nn.RMSNorm(5), nn.Linear(5, 2)), (4, 5)),
    "group norm": Case(lambda: _net(nn.GroupNorm(2, 4), nn.Tanh()), (4, 3, 3)),
    "group norm, no positions": Case(lambda: _net(nn.GroupNorm(2, 4), nn.Tanh()), (4,)),
    "instance norm": Case(lambda: _net(nn.InstanceNorm2d(4, affine=True)), (4, 3, 3)),
    "instance norm 1d": Case(lambda: _net(nn.InstanceNorm1d(4, affine=True)), (4, 6)),
    "in place": Case(
        lambda: _net(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 3)),
        (4, 5, 5),
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_torch_func(name: str, transform: str) -> None:
    both = pair(CASES[name], transform=transform)
    both.check()
    assert not [way for way in both.engine.choices().values() if "at a time" in way]


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("name", CASES)
def test_every_grouping_of_the_clipper(name: str, grouping: str) -> None:
    pair(CASES[name], transform="scaled", grouping=grouping).check()
    pair(CASES[name], grouping=grouping).check()


@pytest.mark.parametrize("name", CASES)
def test_rows_in_single_precision(name: str) -> None:
    for transform in ("none", "scaled"):
        pair(CASES[name], transform=transform, dtype=torch.float32).check()


def test_images_may_be_channels_last_inside() -> None:
    """Float32 images on the CPU are; a model that views them as flat cannot be, and still works."""

    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(2, 4, 3), nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.conv(x).tanh().view(len(x), -1))

    flat = pair(Case(Viewing, (2, 5, 5)), transform="scaled", dtype=torch.float32)
    flat.check()
    assert flat.engine.memory_format == torch.contiguous_format
    images = pair(CASES["conv2d"], transform="scaled", dtype=torch.float32)
    assert images.engine.memory_format == torch.channels_last


def _shifted_patches(layer: nn.Module, x: Tensor) -> Tensor:
    return kinds_patches(layer, x.roll(1, -1))


kinds_patches = kinds.patches


@pytest.mark.parametrize(
    ("target", "mutant", "name"),
    [
        ("patches", _shifted_patches, "conv2d"),
        ("_padding", lambda layer, d: (0, 2 * int(layer.padding[d])), "conv2d"),
        ("_layer_norm", lambda layer, x: x, "layer norm"),
    ],
)
def test_a_wrong_layer_is_noticed(
    monkeypatch: pytest.MonkeyPatch, target: str, mutant: object, name: str
) -> None:
    """A planted mistake in a layer's rows has its parameters differentiated a record at a time."""
    if target == "_layer_norm":
        monkeypatch.setitem(kinds.KNOWN, nn.LayerNorm, kinds._over_features(mutant))
    else:
        monkeypatch.setattr(kinds, target, mutant)
    with pytest.raises(AssertionError):
        test_rows_are_those_of_torch_func(name, "none")
