"""Dead leaves: images made by a program, with edges, shades and textures as photographs have.

Shapes of random place, size, colour and texture fall on each other until the image is covered.
With sizes r of density r^−2.5 their patches have much in common with those of photographs.
No data set and no person's record is behind them.

Source: Lee, Mumford and Huang 2001 (Int. J. Computer Vision 41); as a prior for learning,
Baradad et al. 2021 (arXiv 2106.05963).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAVES = 60
FINER = 2  # drawn at so many times the size, then averaged: no stairs at the edges
SMALLEST, LARGEST, POWER = 0.08, 1.2, 1.5  # radii; the image is 2 wide


def dead_leaves(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return `count` images of a shape (C, H, W), float32 in [−1, 1]: the same for every caller.

    Args:
        shape: as the records' is declared.
        seed: of the drawing; public, and no part of any noise.
    """
    draw = torch.Generator().manual_seed(seed)
    blocks = [_block(min(250, count - at), shape, draw) for at in range(0, count, 250)]
    return torch.cat(blocks)


def _block(n: int, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    channels, height, width = shape[0], shape[1] * FINER, shape[2] * FINER
    y_H1 = torch.linspace(-1, 1, height)[:, None]
    x_W = torch.linspace(-1, 1, width)
    noise_K = _noise(height, width, draw)
    image = torch.zeros(n, channels, height, width)
    for leaf in range(LEAVES):
        paint = _paint(n, channels, x_W, y_H1, noise_K, draw)
        if leaf == 0:
            image = paint
        else:
            image = torch.where(_shape(n, x_W, y_H1, draw)[:, None], paint, image)
    contrast = 0.4 + 0.6 * _uniform(n, draw)
    return (torch.nn.functional.avg_pool2d(image, FINER) * contrast[:, None]).clamp(-1, 1)


def _uniform(n: int, draw: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """n × 1 × 1."""
    return low + (high - low) * torch.rand((n, 1, 1), generator=draw)


def _noise(height: int, width: int, draw: torch.Generator) -> Tensor:
    """Textures: noise with spectra f^−p for p from 0.5 to 2, each of unit spread."""
    f_down = torch.fft.fftfreq(height)[:, None]
    f_across = torch.fft.rfftfreq(width)
    f = (f_down.square() + f_across.square()).sqrt().clamp(min=1 / max(height, width))
    found = []
    for power in (0.5, 1.0, 1.5, 2.0):
        white = torch.fft.rfft2(torch.randn((32, height, width), generator=draw))
        z = torch.fft.irfft2(white * f**-power, s=(height, width))
        found.append(z / z.std((1, 2), keepdim=True))
    return torch.cat(found)


def _paint(
    n: int, channels: int, x_W: Tensor, y_H1: Tensor, noise_K: Tensor, draw: torch.Generator
) -> Tensor:
    """What a leaf looks like: a colour, a shade, a texture, and sometimes stripes."""
    light = _uniform(n, draw, -1, 1)
    tint = 0.25 * _uniform(n, draw) * torch.randn((n, channels, 1), generator=draw)
    colour = light + tint - tint.mean(1, keepdim=True)
    texture = noise_K[torch.randint(len(noise_K), (n,), generator=draw)]
    texture = texture * (0.3 * _uniform(n, draw) * (_uniform(n, draw) < 0.7))
    lean = 0.3 * torch.randn((n, 2, 1, 1), generator=draw)
    shade = lean[:, 0] * y_H1 + lean[:, 1] * x_W
    angle = _uniform(n, draw, 0, math.tau)
    along = torch.cos(angle) * x_W + torch.sin(angle) * y_H1
    phase = _uniform(n, draw, 0, math.tau)
    stripes = torch.sin(along * (3 + 27 * _uniform(n, draw).square()) + phase)
    stripes = stripes * (0.5 * _uniform(n, draw) * (_uniform(n, draw) < 0.2))
    return colour[..., None] + (texture + shade + stripes)[:, None]


def _shape(n: int, x_W: Tensor, y_H1: Tensor, draw: torch.Generator) -> Tensor:
    """Where a leaf lies: an ellipse, a rectangle or a triangle. n × H × W."""
    share = 1 - (SMALLEST / LARGEST) ** POWER
    radius = SMALLEST * (1 - _uniform(n, draw) * share) ** (-1 / POWER)
    stretch = torch.exp(0.25 * torch.randn((n, 1, 1), generator=draw))
    angle = _uniform(n, draw, 0, math.pi)
    dx = x_W - _uniform(n, draw, -LARGEST, LARGEST)
    dy = y_H1 - _uniform(n, draw, -LARGEST, LARGEST)
    a = (dx * torch.cos(angle) + dy * torch.sin(angle)) / stretch
    b = (dy * torch.cos(angle) - dx * torch.sin(angle)) * stretch
    kind = torch.randint(3, (n, 1, 1), generator=draw)
    ellipse = a.square() + b.square() < radius.square()
    rectangle = (a.abs() < radius) & (b.abs() < radius)
    triangle = (b > -0.6 * radius) & (b < radius - 2 * a.abs())
    return torch.where(kind == 0, ellipse, torch.where(kind == 1, rectangle, triangle))
