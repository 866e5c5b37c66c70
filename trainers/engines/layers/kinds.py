"""The layer types that the fast engine knows: from input and output gradient to statistics.

A type is looked up exactly: a subclass may compute something else, so it falls back to vmap.
Every function takes the module, its input x, the gradient b of its output and the number B of
records, and gives the rows of one of its parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.distributed import kind_of
from dpigu.trainers.engines.layers.parameter_rows import (
    Factors,
    Formed,
    Layout,
    ParameterRows,
    Sparse,
)
from dpigu.trainers.engines.layers.workspace import Workspace
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Seen:
    """What one call of a layer shows: B records, input x, gradient b of the output."""

    records: int
    x: Tensor
    b: Tensor
    workspace: Workspace


def _transposed_weight(layer: nn.Module, seen: Seen) -> ParameterRows:
    """Σ_t x_t b_tᵀ: a linear map whose weight is stored inputs × outputs."""
    x_BIT = seen.x.reshape(seen.records, -1, seen.x.shape[-1]).transpose(1, 2)
    b_BOT = seen.b.reshape(seen.records, -1, seen.b.shape[-1]).transpose(1, 2)
    layout = Layout((1, x_BIT.shape[1], b_BOT.shape[1], 1), False)
    return Factors(layout, lambda lo, hi: b_BOT[lo:hi, None], x_BIT[:, None])


Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def _linear_weight(layer: nn.Linear, seen: Seen) -> ParameterRows:
    """Σ_t b_t x_tᵀ over all positions of a record."""
    a_BIT = seen.x.reshape(seen.records, -1, seen.x.shape[-1]).transpose(1, 2)
    b_BOT = seen.b.reshape(seen.records, -1, seen.b.shape[-1]).transpose(1, 2)
    layout = Layout((1, layer.out_features, layer.in_features, 1), False)
    return Factors(layout, lambda lo, hi: a_BIT[lo:hi, None], b_BOT[:, None])


def _linear_bias(layer: nn.Module, seen: Seen) -> ParameterRows:
    """Σ_t b_t."""
    b_BTO = seen.b.reshape(seen.records, -1, seen.b.shape[-1])
    return Formed(b_BTO.sum(1) if b_BTO.shape[1] > 1 else b_BTO[:, 0])


def _convolution_weight(layer: Convolution, seen: Seen) -> ParameterRows:
    """Σ_t b_t p_tᵀ over output positions t, where p_t is the patch of the input there.

    Patches are made for few records at a time, in memory that stays in cache.
    """
    q, x = layer.groups, seen.x
    taps = math.prod(layer.kernel_size)
    shape = (q, layer.out_channels // q, layer.in_channels // q, taps)
    b_BqOT = seen.b.flatten(2).view(seen.records, q, shape[1], -1)
    last = x.dim() == 4 and q == 1 and not x.is_contiguous() and _channels_last(x)

    def left(lo: int, hi: int) -> Tensor:
        view = patches(layer, x[lo:hi])
        if last:
            view = view.permute(0, 4, 5, 2, 3, 1)
        out = seen.workspace.take("patches", tuple(view.shape), x.dtype, x.device).copy_(view)
        if last:
            return out.view(hi - lo, 1, b_BqOT.shape[3], -1).transpose(2, 3)
        return out.view(hi - lo, q, -1, b_BqOT.shape[3])

    return Factors(Layout(shape, last), left, b_BqOT)


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _convolution_bias(layer: Convolution, seen: Seen) -> ParameterRows:
    """Σ_t b_t."""
    return Formed(seen.b.flatten(2).sum(2))


def patches(layer: Convolution, x: Tensor) -> Tensor:
    """A view of every patch that the kernel meets: B × C × (kernel…) × (positions…)."""
    n = len(layer.kernel_size)
    dims = range(n)
    sides = [_padding(layer, d) for d in dims]
    if layer.padding_mode == "zeros":
        if any(map(any, sides)):
            x = F.pad(x, [side for pair in reversed(sides) for side in pair])
    else:
        for d in dims:
            x = _copied(x, d, sides[d], layer.padding_mode)
    for d in dims:
        reach = layer.dilation[d] * (layer.kernel_size[d] - 1) + 1
        x = x.unfold(2 + d, reach, layer.stride[d])[..., :: layer.dilation[d]]
    return x.permute(0, 1, *range(2 + n, 2 + 2 * n), *range(2, 2 + n))


def _padding(layer: Convolution, d: int) -> tuple[int, int]:
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        total = layer.dilation[d] * (layer.kernel_size[d] - 1)
        return total // 2, total - total // 2
    return int(layer.padding[d]), int(layer.padding[d])


def _copied(x: Tensor, d: int, sides: tuple[int, int], mode: str) -> Tensor:
    """Padding that copies values, along one spatial dimension; the modes are separable."""
    size = x.shape[2 + d]
    at = torch.arange(-sides[0], size + sides[1], device=x.device)
    if mode == "circular":
        at = at % size
    elif mode == "replicate":
        at = at.clamp(0, size - 1)
    else:
        at = (size - 1) - (at.abs() - (size - 1)).abs()
    return x.index_select(2 + d, at)


def _embedding_weight(layer: nn.Embedding, seen: Seen) -> ParameterRows:
    """b_t added to the row of the table that position t reads."""
    if layer.max_norm is not None or layer.scale_grad_by_freq:
        raise ModelError(
            "an embedding that rescales by what the batch holds has no row for one record",
            where="Embedding",
            got=f"max_norm={layer.max_norm}, scale_grad_by_freq={layer.scale_grad_by_freq}",
            remedy="Leave max_norm and scale_grad_by_freq at their defaults.",
        )
    b_BTE = seen.b.reshape(seen.records, -1, layer.embedding_dim)
    index_BT = seen.x.reshape(seen.records, -1).to(torch.int64)
    return Sparse.merging(index_BT, b_BTE, layer.num_embeddings, layer.padding_idx)


def _layer_norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, eps=layer.eps)


def _rms_norm(layer: nn.RMSNorm, x: Tensor) -> Tensor:
    return F.rms_norm(x, layer.normalized_shape, eps=layer.eps)


def _group_norm(layer: nn.GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x, layer.num_groups, eps=layer.eps)


def _instance_norm(layer: nn.InstanceNorm2d, x: Tensor) -> Tensor:
    return F.instance_norm(x, eps=layer.eps)


def _over_features(normal: Callable[..., Tensor]) -> Mapping[str, Row]:
    """Normalised over the last dimensions: weight Σ_t b_t ⊙ x̂_t, bias Σ_t b_t."""

    def total(layer: nn.LayerNorm | nn.RMSNorm, seen: Seen, v: Tensor) -> ParameterRows:
        size = math.prod(layer.normalized_shape)
        return Formed(v.reshape(seen.records, -1, size).sum(1))

    return {
        "weight": lambda layer, seen: total(layer, seen, seen.b * normal(layer, seen.x)),
        "bias": lambda layer, seen: total(layer, seen, seen.b),
    }


def _over_channels(normal: Callable[..., Tensor]) -> Mapping[str, Row]:
    """Normalised over positions: for each channel, weight Σ_t b_t x̂_t and bias Σ_t b_t."""

    def total(v: Tensor) -> ParameterRows:
        return Formed(v.reshape(*v.shape[:2], -1).sum(2))

    return {
        "weight": lambda layer, seen: total(seen.b * normal(layer, seen.x)),
        "bias": lambda layer, seen: total(seen.b),
    }


Row = Callable[[Any, Seen], ParameterRows]
_CONVOLUTION: Mapping[str, Row] = {"weight": _convolution_weight, "bias": _convolution_bias}

KNOWN: Mapping[type[nn.Module], Mapping[str, Row]] = {
    nn.Linear: {"weight": _linear_weight, "bias": _linear_bias},
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
    nn.Conv3d: _CONVOLUTION,
    nn.Embedding: {"weight": _embedding_weight},
    nn.LayerNorm: _over_features(_layer_norm),
    nn.RMSNorm: _over_features(_rms_norm),
    nn.GroupNorm: _over_channels(_group_norm),
    nn.InstanceNorm1d: _over_channels(_instance_norm),
    nn.InstanceNorm2d: _over_channels(_instance_norm),
    nn.InstanceNorm3d: _over_channels(_instance_norm),
}


_OF_OTHERS: Mapping[str, Mapping[str, Row]] = {
    "transformers.pytorch_utils.Conv1D": {"weight": _transposed_weight, "bias": _linear_bias},
}
"""Types of other libraries, which need not be there."""


def rows_of(kind: type[nn.Module]) -> Mapping[str, Row] | None:
    """How a layer of exactly this type gives the rows of its parameters; None if unknown."""
    return KNOWN.get(kind) or _OF_OTHERS.get(f"{kind.__module__}.{kind.__qualname__}")


_IMAGES: Mapping[type[nn.Module], int] = {
    nn.Conv1d: 2,
    nn.Conv2d: 3,
    nn.Conv3d: 4,
    nn.InstanceNorm1d: 2,
    nn.InstanceNorm2d: 3,
    nn.InstanceNorm3d: 4,
}


def own_dims(module: nn.Module, x: Tensor) -> int | None:
    """How many of an input's dimensions are channels and positions, where those before them
    are a batch to the layer; None for a layer that maps every position by itself."""
    kind = kind_of(module)
    if kind is nn.GroupNorm:
        return x.dim() - 1
    return _IMAGES.get(kind)


def seen_by(x: Tensor, b: Tensor, records: int, workspace: Workspace) -> Seen:
    """A call of a known layer, in float32 or wider.

    Under autocast the layer multiplied x rounded to the dtype of its output; so do the rows.
    """
    wide = torch.promote_types(b.dtype, torch.float32)
    if x.is_floating_point():
        x = x.to(b.dtype).to(wide)
    return Seen(records, x, b.to(wide), workspace)
