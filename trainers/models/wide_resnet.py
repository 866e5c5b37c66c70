"""Wide residual nets without batch statistics: group norm and standardised convolutions."""

from __future__ import annotations

import torch
from dpigu.dpcore.errors import ModelError
from dpigu.trainers.data import DataSpec
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 16


class WSConv2d(nn.Conv2d):
    """A convolution with weights of mean 0 and norm 1 for each output channel.

    out = x * ŵ + bias,  ŵ_c = (w_c − mean w_c)/√(n·var w_c + 1e-4),  n = weights of a channel

    Arguments and shapes are those of `torch.nn.Conv2d`. ŵ has norm 1, so the size of the signal is
    kept whatever n is, and does not depend on the size of w. A record's row is its gradient
    with respect to w; the fast engine forms it by a vector-Jacobian product.

    Source: Qiao et al. 2019 (arXiv 1903.10520), scaled by 1/√n as in Brock, De and Smith 2021
    (arXiv 2101.08692); for DP-SGD De et al. 2022 (arXiv 2204.13650), section 3.
    """

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, standardised(self.weight), self.bias)
        return out


def standardised(weight: Tensor) -> Tensor:
    """Every output channel's weights at mean 0 and norm 1 (a constant channel stays near 0)."""
    flat = weight.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    scale = torch.rsqrt(centred.square().sum(1, keepdim=True) + 1e-4)
    return (centred * scale).reshape(weight.shape)


class WideBlock(nn.Module):
    """Two 3 × 3 convolutions, each after a norm, around a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = WSConv2d(channels, out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, out)
        self.conv2 = WSConv2d(out, out, 3, padding=1, bias=False)
        same = channels == out and stride == 1
        self.short = nn.Identity() if same else WSConv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        shortcut = x if isinstance(self.short, nn.Identity) else self.short(y)
        residual: Tensor = self.conv2(F.relu(self.norm2(self.conv1(y))))
        return shortcut + residual


def wide_resnet(spec: DataSpec, depth: int, width: int) -> nn.Module:
    """Return WRN-depth-width for images of any size: (depth − 4)/6 blocks in each of 3 stages.

    16·width, 32·width and 64·width channels; the second and third stage halve the image.
    WRN-16-4 has 2.75 million parameters for 10 classes.

    Raises:
        ModelError: records that are no images (channels × height × width).

    Source: Zagoruyko and Komodakis 2016 (arXiv 1605.07146), with group norm of 16 groups and
    standardised weights as in De et al. 2022 (arXiv 2204.13650).
    """
    if len(spec.shape) != 3:
        raise ModelError(
            "a convolutional net takes images",
            where=spec.name,
            got=spec.shape,
            expected="(channels, height, width)",
            remedy="Try the `model` mlp.",
        )
    layers: list[nn.Module] = [WSConv2d(spec.shape[0], 16, 3, padding=1, bias=False)]
    channels = 16
    for out, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        for k in range((depth - 4) // 6):
            layers.append(WideBlock(channels, out, stride if k == 0 else 1))
            channels = out
    layers += [nn.GroupNorm(GROUPS, channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, spec.outputs))
