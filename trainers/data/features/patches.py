"""Whitened patches of procedural images as filters: fixed features that saw no record.

One layer: both signs of the responses of 1024 filters of 6 × 6 pixels, averaged over 3 × 3 windows
that overlap and over the image and its mirror image; their logarithms, standardised, whitened over
channels to 1024, and brought to norm 10. Two layers: beside these, 1024 filters of 3 × 3 on maps
that 256 filters of 5 × 5 made, averaged over 2 × 2 places and whitened to 64 maps.

The logarithm is of a response over its mean on procedural images, log(s/s̄ + 1/5): responses are
never negative and mostly small, and a few large ones would fill the norm.

The filters are patches of dead-leaves images, or of their maps; means, deviations and whitenings
are those of such images too. It is a prior learnt from images that a program made: no record had a
part in it. The constants below were chosen on training records of CIFAR-10 (docs/results.md).

Whitening is what makes them fit for private training: a few noisy steps learn the directions of
large variance only, and a public transform that evens those out costs no privacy.

Source: Coates and Ng 2011 (ICML); Thiry et al. 2021 (arXiv 2101.07528); the logarithm as of
scattering coefficients: Andén and Mallat 2014 (arXiv 1304.6763), section IV.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from dpigu.dpcore import DataError
from dpigu.trainers.data.features import NORM
from dpigu.trainers.data.features.dead_leaves import dead_leaves
from dpigu.trainers.data.features.filters import Filters, learnt, regions, root
from torch import Tensor
from torch.nn import functional as F

PATCH, FILTERS, THRESHOLD = 6, 1024, 0.5
LOW_PATCH, LOW_FILTERS, MAPS, MAP_SHRINKAGE = 5, 256, 64, 0.1  # the first of two layers
HIGH_PATCH, HIGH_THRESHOLD = 3, 1.0  # the second
FLAT, FLAT_MAPS = 6e-4, 1e-2
REGIONS, CHANNELS, SHRINKAGE = 3, 1024, 1.0
LEAST = 0.2  # what is added before the logarithm, in units of the mean response
IMAGES = 2000  # procedural, that filters and whitening come from
Windows = Callable[[int, int, int], Tensor]
"""Of a map's height and width and a count: means over count × count windows, R × places."""


def patches_shape(shape: tuple[int, ...], layers: int = 1) -> tuple[int, ...]:
    """The length of the features of a record C × H × W: 1024 · 9 a layer.

    Raises: DataError for what is no image, or is narrower than 8 pixels, or 14 for two layers.
    """
    least = PATCH + REGIONS - 1
    if layers == 2:
        least = LOW_PATCH - 1 + 2 * (HIGH_PATCH + REGIONS - 1)
    if len(shape) != 3 or min(shape[1:]) < least:
        raise DataError(
            "features of patches are for images",
            got=shape,
            expected=f"(channels, height, width), from {least} pixels on",
            remedy="Pad the images, or train without `features`.",
        )
    return (layers * CHANNELS * REGIONS**2,)


class _Maps(NamedTuple):
    """The first of two layers: an image becomes 64 maps of half its size.

    Args:
        filters: of the pixels.
        mixing: 2F × maps: standardises and whitens.
        shift: the mean's part, maps × 1 × 1.
    """

    filters: Filters
    mixing: Tensor
    shift: Tensor

    def __call__(self, x_1: Tensor) -> Tensor:
        halved = self.filters.halved(x_1)
        return (torch.einsum("chw,cm->mhw", halved, self.mixing) - self.shift)[None]


class _Block(NamedTuple):
    """One layer's features: filters on the image or on its maps, pooled and whitened.

    Args:
        maps: of an image; none for the image itself.
        filters: their threshold and weights.
        pool: windows × places.
        level: the mean pooled response, 2F × windows.
        mean, deviation: of the logarithms, 2F × windows.
        whitening: 2F × channels.
    """

    maps: _Maps | None
    filters: Filters
    pool: Tensor
    level: Tensor
    mean: Tensor
    deviation: Tensor
    whitening: Tensor

    def __call__(self, raw_NCR: Tensor) -> Tensor:
        even_NCR = _even((_log(raw_NCR, self.level) - self.mean) / self.deviation)
        white_NDR = torch.einsum("ncr,cd->ndr", even_NCR, self.whitening)
        return F.normalize(white_NDR.flatten(1), dim=1).view_as(white_NDR)


@lru_cache(maxsize=4)
def _prior(shape: tuple[int, ...], layers: int, windows: Windows) -> tuple[_Block, ...]:
    """What is learnt from procedural images of a shape: a minute or two of one core."""
    images, learnt_filters = _filters(shape, layers)
    return tuple(_block(maps, filters, images, windows) for maps, filters in learnt_filters)


@lru_cache(maxsize=4)
def _filters(
    shape: tuple[int, ...], layers: int
) -> tuple[Tensor, tuple[tuple[_Maps | None, Filters], ...]]:
    """Procedural images, and of every layer the maps that it sees and its filters."""
    images = dead_leaves(IMAGES, shape)
    first = learnt(images, size=PATCH, count=FILTERS, threshold=THRESHOLD, flat=FLAT, seed=1)
    if layers == 1:
        return images, ((None, first),)
    maps = _low(images[: IMAGES // 2])
    high = learnt(
        torch.cat([maps(x_1) for x_1 in torch.split(images[: IMAGES // 2], 1)]),
        size=HIGH_PATCH,
        count=FILTERS,
        threshold=HIGH_THRESHOLD,
        flat=FLAT_MAPS,
        seed=3,
    )
    return images, ((None, first), (maps, high))


def _low(images: Tensor) -> _Maps:
    filters = learnt(
        images, size=LOW_PATCH, count=LOW_FILTERS, threshold=THRESHOLD, flat=FLAT, seed=2
    )
    halved_NCHW = torch.stack([filters.halved(x_1) for x_1 in torch.split(images, 1)])
    mean, deviation = halved_NCHW.mean((0, 2, 3)), halved_NCHW.std((0, 2, 3)) + 1e-6
    scaled_NCL = ((halved_NCHW - mean[:, None, None]) / deviation[:, None, None]).flatten(2)
    across = torch.einsum("ncl,ndl->cd", scaled_NCL, scaled_NCL) / (
        len(images) * scaled_NCL.shape[2]
    )
    mixing = root(across, MAPS, MAP_SHRINKAGE) / deviation[:, None]
    return _Maps(filters, mixing, (mean @ mixing)[:, None, None])


def _block(maps: _Maps | None, filters: Filters, images: Tensor, windows: Windows) -> _Block:
    sides = images.shape[2:] if maps is None else maps(images[:1]).shape[2:]
    height, width = (side - filters.size + 1 for side in sides)
    pool = windows(height, width, REGIONS)
    raw_NCR = torch.stack([_raw(maps, filters, pool, x_1) for x_1 in torch.split(images, 1)])
    level = raw_NCR.mean(0) + 1e-6
    log_NCR = _log(raw_NCR, level)
    mean, deviation = log_NCR.mean(0), log_NCR.std(0) + 1e-6
    even_NCR = _even((log_NCR - mean) / deviation)
    across = torch.einsum("ncr,ndr->cd", even_NCR, even_NCR) / (len(images) * REGIONS**2)
    whitening = root(across, CHANNELS, SHRINKAGE)
    return _Block(maps, filters, pool, level, mean, deviation, whitening)


def _raw(maps: _Maps | None, filters: Filters, pool: Tensor, x_1: Tensor) -> Tensor:
    """The pooled responses to an image, averaged with those to its mirror image: 2F × R."""
    both = (x_1, x_1.flip(3))
    found = [filters.pooled(x if maps is None else maps(x), pool) for x in both]
    return (found[0] + found[1]) / 2


class Patches:
    """The features of images of one shape: x, B × C × H × W, becomes B × 9216·layers.

    No record's features depend on another record, to the last bit: each is multiplied alone.

    Args:
        shape: (C, H, W).
        layers: 1, or 2 for both.
        windows: that responses are averaged over.

    Raises: DataError for records of another shape.
    """

    def __init__(self, shape: tuple[int, ...], layers: int = 1, windows: Windows = regions) -> None:
        patches_shape(shape, layers)
        self._of = shape, layers, windows

    def __call__(self, x: Tensor) -> Tensor:
        found = []
        for block in _prior(*self._of):
            raw = (_raw(block.maps, block.filters, block.pool, x_1) for x_1 in torch.split(x, 1))
            found.append(torch.cat([block(one_CR[None]) for one_CR in raw]))
        white_NDR = torch.cat(found, 1) * (NORM / math.sqrt(len(found)))
        return white_NDR.flatten(1)


def _log(raw_NCR: Tensor, level: Tensor) -> Tensor:
    """Responses, never negative but for rounding, on a scale where factors are steps."""
    return (raw_NCR.clamp(min=0) / level + LEAST).log_()


def _even(scaled_NCR: Tensor) -> Tensor:
    """Every record at norm √(its length)."""
    size = scaled_NCR[0].numel()
    norm_N: Tensor = torch.linalg.vector_norm(scaled_NCR.flatten(1), dim=1)
    return scaled_NCR * (math.sqrt(size) / norm_N)[:, None, None]
