"""Filters that are whitened patches of maps, and both signs of their responses.

For a patch p of C maps and filters w_f, f = 1 … F:

    p̃ = (p − mean p)/√(var p + flat),  r_f = ⟨w_f, p̃ − mean p̃⟩,  s_f± = max(0, ±r_f − t)

The filters are themselves whitened patches of procedural maps, so a response is about 1 in size
on such maps, whatever the filter. All is in float32, one record at a time: what that needs stays
in the processor's cache.

Source: Coates and Ng 2011 (ICML).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

DRAWN, CHOSEN_FROM = 50, 50_000  # patches of a picture, and all that a whitening is learnt from
ZCA = 0.1  # added to the variances before they are divided by


class Filters(NamedTuple):
    """A layer's filters.

    Args:
        weights: (P + 1) × F; the last row takes off the mean patch's response.
        size: of a patch, in pixels; P = maps · size².
        flat: the variance at which a patch counts as flat.
        threshold: t.
    """

    weights: Tensor
    size: int
    flat: float
    threshold: float

    def responses(self, maps: Tensor) -> Tensor:
        """r at all places of one record's maps, 1 × C × H × W: places × F."""
        patch_LP = _normalised(F.unfold(maps, self.size)[0].T.contiguous(), self.flat)
        return torch.cat([patch_LP, torch.ones(len(patch_LP), 1)], 1) @ self.weights

    def pooled(self, maps: Tensor, regions_RL: Tensor) -> Tensor:
        """s₊ and s₋ averaged over windows: 2F × R."""
        r_LF = self.responses(maps)
        above = regions_RL @ r_LF.clamp(min=self.threshold)
        below = regions_RL @ r_LF.clamp_(max=-self.threshold)
        return (torch.cat([above, -below], 1) - self.threshold).T

    def halved(self, maps: Tensor) -> Tensor:
        """s₊ and s₋ averaged over squares of 2 × 2 places, an odd last one left out: 2F × h × w."""
        height, width = (side - self.size + 1 for side in maps.shape[2:])
        r_HWF = self.responses(maps).view(height, width, -1)
        r_HWF = r_HWF[: height // 2 * 2, : width // 2 * 2]
        both = r_HWF.clamp(min=self.threshold), -r_HWF.clamp(max=-self.threshold)
        return torch.cat([_squares(s) - self.threshold for s in both], 2).movedim(2, 0)


def learnt(
    maps: Tensor, *, size: int, count: int, threshold: float, flat: float, seed: int
) -> Filters:
    """Filters from random patches of procedural maps, N × C × H × W.

    Args:
        seed: of the draws; public, and no part of any noise.
    """
    draw = torch.Generator().manual_seed(seed)
    drawn = []
    for maps_B in torch.split(maps, 100):
        every = F.unfold(maps_B, size).transpose(1, 2)
        at = torch.randint(every.shape[1], (len(every), DRAWN, 1), generator=draw)
        drawn.append(every.gather(1, at.expand(-1, -1, every.shape[2])).flatten(0, 1))
    patch_NP = torch.cat(drawn)
    patch_NP = _normalised(patch_NP[patch_NP.var(1) > 1e-4], flat)
    patch_NP = patch_NP[torch.randperm(len(patch_NP), generator=draw)[:CHOSEN_FROM]]
    mean_P = patch_NP.mean(0)
    covariance = (patch_NP - mean_P).T @ (patch_NP - mean_P) / len(patch_NP)
    values, vectors = torch.linalg.eigh(covariance.double())
    zca = ((vectors * (values.clamp(min=0) + ZCA).rsqrt()) @ vectors.T).float()
    own_FP = F.normalize((patch_NP[:count] - mean_P) @ zca, dim=1) @ zca
    return Filters(torch.cat([own_FP.T, -(own_FP @ mean_P)[None]]), size, flat, threshold)


def regions(height: int, width: int, count: int, reach: float = 1.0) -> Tensor:
    """Means over count × count windows, which overlap where places are more than they: R × places.

    Along a side of L places, window k of n weighs place i by

        max(0, 1 − |(i + ½)·n/L − (k + ½)|/reach),

    a tent that ends at the centres of its neighbours, for a reach of 1. What moves by a few places
    changes little then, where windows with edges drop it from one and give it to the next.

    Errors: `ValueError` for a reach below ½, which would leave places out.
    """
    if reach < 0.5:
        raise ValueError(f"windows need a reach of at least ½, got {reach}")
    sides = []
    for length in (height, width):
        at, centre = (torch.arange(length) + 0.5) * count / length, torch.arange(count) + 0.5
        weights = (1 - (at - centre[:, None]).abs() / reach).clamp(min=0)
        sides.append(weights / weights.sum(1, keepdim=True))
    return torch.einsum("ij,kl->ikjl", *sides).reshape(count**2, -1).contiguous()


def root(covariance: Tensor, keep: int, shrinkage: float) -> Tensor:
    """The leading directions, each divided by √(its variance + shrinkage · the mean variance)."""
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values[-keep:].clamp(min=0), vectors[:, -keep:]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    level = shrinkage * covariance.diagonal().mean()
    whitening: Tensor = vectors * largest.sign() * (values + level).rsqrt()
    return whitening


def _normalised(patch_LP: Tensor, flat: float) -> Tensor:
    centred = patch_LP - patch_LP.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + flat).rsqrt()


def _squares(s_HWF: Tensor) -> Tensor:
    rows = s_HWF[0::2] + s_HWF[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) / 4
