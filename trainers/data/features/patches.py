"""Whitened patches of procedural images as filters: fixed features that saw no record.

For a record x and filters w_f, f = 1 … F, over all 6 × 6 patches p of x:

    p̃ = (p − mean p)/√(var p + 6·10⁻⁴),  s_f± = max(0, ±⟨w_f, p̃⟩ − ½)

averaged over 3 × 3 regions and over the image and its mirror image; then standardised, whitened
over channels, and brought to norm 10. The filters are patches of dead-leaves images, whitened;
means, deviations and the whitening are those of the features of such images too. It is a prior
learnt from images that a program made: no record and no data set had a part in it.

Whitening is what makes them fit for private training: a few noisy steps learn the directions of
large variance only, and a public transform that evens those out costs no privacy.

Source: Coates and Ng 2011 (ICML); Thiry et al. 2021 (arXiv 2101.07528).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from dpigu.dpcore import DataError
from dpigu.trainers.data.features.dead_leaves import dead_leaves
from torch import Tensor
from torch.nn import functional as F

PATCH, FILTERS, REGIONS, CHANNELS = 6, 2048, 3, 1024
IMAGES = 2000  # procedural, that filters and whitening come from
THRESHOLD, FLAT, ZCA, SHRINKAGE, NORM = 0.5, 6e-4, 0.1, 1.0, 10.0


def patches_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the features of a record C × H × W: 1024 × 3 × 3.

    Raises: DataError for what is no image, or is narrower than 8 pixels.
    """
    if len(shape) != 3 or min(shape[1:]) < PATCH + REGIONS - 1:
        raise DataError(
            "features of patches are for images",
            got=shape,
            expected=f"(channels, height, width), from {PATCH + REGIONS - 1} pixels on",
            remedy="Pad the images, or train without `features`.",
        )
    return CHANNELS, REGIONS, REGIONS


class _Prior(NamedTuple):
    """What is learnt from procedural images of a shape, and nothing else.

    Args:
        filters: (P + 1) × 2F, bfloat16: whitened patches, and their thresholds in the last row.
        pool: regions × patches, bfloat16.
        mean, deviation: of the pooled responses, F × regions.
        whitening: channels before × channels after.
    """

    filters: Tensor
    pool: Tensor
    mean: Tensor
    deviation: Tensor
    whitening: Tensor


@lru_cache(maxsize=2)
def _prior(shape: tuple[int, ...]) -> _Prior:
    """The prior for images of a shape: half a minute of one core, once in a process."""
    images = dead_leaves(IMAGES, shape)
    filters, pool = _filters(images).bfloat16(), _pooling(shape).bfloat16()
    raw_NCR = torch.cat([_pooled(x_B, filters, pool) for x_B in torch.split(images, 8)])
    mean, deviation = raw_NCR.mean(0), raw_NCR.std(0) + 1e-6
    even_NCR = _even((raw_NCR - mean) / deviation)
    across = torch.einsum("ncr,ndr->cd", even_NCR, even_NCR) / (len(images) * REGIONS**2)
    return _Prior(filters, pool, mean, deviation, _root(across, CHANNELS, SHRINKAGE))


class Patches:
    """The features of images of one shape: x, B × C × H × W, becomes B × 1024 × 3 × 3, float32.

    No record's features depend on another record. Products are in bfloat16 where they are large.

    Args:
        shape: (C, H, W).

    Raises: DataError for records of another shape.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        patches_shape(shape)
        self._shape = shape

    def __call__(self, x: Tensor) -> Tensor:
        prior = _prior(self._shape)
        raw_NCR = _pooled(x, prior.filters, prior.pool)
        even_NCR = _even((raw_NCR - prior.mean) / prior.deviation)
        white = torch.einsum("ncr,cd->ndr", even_NCR, prior.whitening)
        return NORM * F.normalize(white.flatten(1), dim=1).view(-1, CHANNELS, REGIONS, REGIONS)


def _pooled(x: Tensor, filters: Tensor, pool: Tensor) -> Tensor:
    """Both signs of every filter, averaged over regions and over the mirror image: N × F × R.

    One image at a time: what it needs then stays in the processor's cache.
    """
    found = []
    for x_1 in torch.split(x, 1):
        patch_LP = _normalised(F.unfold(x_1, PATCH)[0].T)
        ones = torch.ones(len(patch_LP), 1)
        response = (torch.cat([patch_LP, ones], 1).bfloat16() @ filters).relu_()
        found.append(pool @ response)
    pooled = torch.stack(found).float()
    split = pooled.view(len(x), REGIONS, REGIONS, 2, 2, FILTERS // 2)  # …, sign, mirror, filter
    both = (split[:, :, :, :, 0] + split[:, :, :, :, 1].flip(2)) / 2
    return both.flatten(3).flatten(1, 2).transpose(1, 2)


def _even(scaled_NCR: Tensor) -> Tensor:
    """Every record at norm √(its length)."""
    size = scaled_NCR[0].numel()
    norm_N: Tensor = torch.linalg.vector_norm(scaled_NCR.flatten(1), dim=1)
    return scaled_NCR * (math.sqrt(size) / norm_N)[:, None, None]


def _normalised(patch_LP: Tensor) -> Tensor:
    centred = patch_LP - patch_LP.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + FLAT).rsqrt()


def _filters(images: Tensor) -> Tensor:
    """(P + 1) × 2F: random whitened patches, mirrored ones after them, and both negated.

    The last row is what a whitened patch's mean and the threshold take off every response.
    """
    draw = torch.Generator().manual_seed(1)
    channels = images.shape[1]
    patches = []
    for x_B in torch.split(images, 100):
        every = F.unfold(x_B, PATCH).transpose(1, 2)
        at = torch.randint(every.shape[1], (len(every), 50, 1), generator=draw)
        patches.append(every.gather(1, at.expand(-1, -1, every.shape[2])).flatten(0, 1))
    patch_NP = torch.cat(patches)
    patch_NP = _normalised(patch_NP[patch_NP.var(1) > 1e-4])
    mean_P = patch_NP.mean(0)
    covariance = (patch_NP - mean_P).T @ (patch_NP - mean_P) / len(patch_NP)
    values, vectors = torch.linalg.eigh(covariance)
    zca = (vectors * (values.clamp(min=0) + ZCA).rsqrt()) @ vectors.T
    chosen = torch.randperm(len(patch_NP), generator=draw)[: FILTERS // 2]
    half = F.normalize((patch_NP[chosen] - mean_P) @ zca, dim=1)
    own_FP = half @ zca
    mirrored_FP = own_FP.view(-1, channels, PATCH, PATCH).flip(3).flatten(1)
    w_PF = torch.cat([own_FP, mirrored_FP]).T
    shift_F = (own_FP @ mean_P).repeat(2)
    return torch.cat(
        [torch.cat([w_PF, -w_PF], 1), torch.cat([-shift_F, shift_F])[None] - THRESHOLD]
    )


def _pooling(shape: tuple[int, ...]) -> Tensor:
    """Averages over 3 × 3 regions of equal size, borders shared: 9 × number of patches."""
    sides = []
    for length in (size - PATCH + 1 for size in shape[1:]):
        edges = torch.linspace(0, length, REGIONS + 1)
        at = torch.arange(length)
        inside = torch.minimum(edges[1:, None], at + 1) - torch.maximum(edges[:-1, None], at)
        weights = inside.clamp(min=0)
        sides.append(weights / weights.sum(1, keepdim=True))
    return torch.einsum("ij,kl->ikjl", *sides).reshape(REGIONS**2, -1)


def _root(covariance: Tensor, keep: int, shrinkage: float) -> Tensor:
    """The leading directions, each divided by √(its variance + shrinkage · the mean variance)."""
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values[-keep:].clamp(min=0), vectors[:, -keep:]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    level = shrinkage * covariance.diagonal().mean()
    whitening: Tensor = vectors * largest.sign() * (values + level).rsqrt()
    return whitening
