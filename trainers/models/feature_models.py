"""Small models on features of any shape (C, H, W): what learns on top of a fixed feature map.

Source: Tramèr and Boneh 2021 (arXiv 2011.11660), section 3 and appendix C.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from dpigu.dpcore.errors import ModelError
from dpigu.trainers.data import DataSpec
from dpigu.trainers.data.features import NORM
from dpigu.trainers.data.features.even import GROUPS
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Normalise each channel by statistics of the whole data set that were released beforehand.

    x̂_c = (x_c − mean_c) / √(square_c − mean_c²), and 0 in a channel without variance

    The buffers `mean` and `square` (length C) start at 0 and 1, where the map is the identity;
    a charged phase sets them (`channel-moments`). Nothing is learnt from the batch, so no
    record's output depends on another's.

    Args:
        channels: C. Takes B × C × ….
        floor: the least variance; below it, noise has decided, and the channel is left out.

    Source: arXiv 2011.11660, section 3.
    """

    mean: Tensor
    square: Tensor

    def __init__(self, channels: int, *, floor: float = 1e-5) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("square", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        variance = self.square - self.mean.square()
        scale = torch.where(variance > self.floor, variance.clamp(min=self.floor).rsqrt(), 0)
        shape = (-1, *(1,) * (x.ndim - 2))
        return (x - self.mean.view(shape)) * scale.view(shape)

    def extra_repr(self) -> str:
        return f"{len(self.mean)}, floor={self.floor:g}"


class Centred(nn.Module):
    """Take a released mean off a vector, and bring what is left to a norm of 10 on average.

    x̂ = 10 (x − mean)/√max(1, Σ_j (square_j − mean_j²))

    Features that are never negative have much in common, which tells no class from another, and
    yet stands in the norm that a clipped gradient is measured by. The buffers are those of
    `ChannelNorm`, with a channel for each coordinate, and are set in the same way.

    Args:
        length: D. Takes B × D.
    """

    mean: Tensor
    square: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("square", torch.full((length,), NORM**2 / length))

    def forward(self, x: Tensor) -> Tensor:
        variance = (self.square - self.mean.square()).sum().clamp(min=1.0)
        return (x - self.mean) * (NORM * variance.rsqrt())

    def extra_repr(self) -> str:
        return f"{len(self.mean)}"


def centred_linear(spec: DataSpec) -> nn.Module:
    """Return centred features and one affine map: multinomial regression on a vector."""
    (length,) = spec.shape
    return nn.Sequential(OrderedDict(norm=Centred(length), linear=nn.Linear(length, spec.outputs)))


def scattering_linear(spec: DataSpec, channels: bool = False) -> nn.Module:
    """Return normalised features and one affine map: multinomial regression."""
    return nn.Sequential(
        OrderedDict(
            norm=_norm(spec, channels),
            flatten=nn.Flatten(),
            linear=nn.Linear(math.prod(spec.shape), spec.outputs),
        )
    )


def scattering_cnn(spec: DataSpec, channels: bool = False) -> nn.Module:
    """Return the paper's small net on features: of grey images (C ≤ 81), or of colour ones."""
    norm = _norm(spec, channels)
    inputs, height, width = spec.shape
    if inputs <= 81:
        height, width = -(-height // 2), -(-width // 2)
        layers: list[nn.Module] = [
            *(nn.Conv2d(inputs, 16, 3, stride=2, padding=1), nn.Tanh()),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(32 * height * width, 32), nn.Tanh()),
            nn.Linear(32, spec.outputs),
        ]
    else:
        layers = [
            *(nn.Conv2d(inputs, 64, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.Tanh(), nn.Flatten()),
            nn.Linear(64 * (height // 2) * (width // 2), spec.outputs),
        ]
    named = {str(i): layer for i, layer in enumerate(layers, 1)}
    return nn.Sequential(OrderedDict(norm=norm, **named))


def _norm(spec: DataSpec, channels: bool) -> nn.Module:
    """Return what comes first: groups within a record, or channels by released statistics."""
    if len(spec.shape) != 3:
        raise ModelError(
            "this model takes features with channels",
            where=spec.name,
            got=spec.shape,
            expected="(channels, height, width)",
            remedy="Train on `features` such as scattering.",
        )
    count = spec.shape[0]
    if channels:
        return ChannelNorm(count)
    return nn.GroupNorm(math.gcd(GROUPS, count), count, affine=False)
