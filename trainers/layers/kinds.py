"""The layer types that the fast engine knows: from input and output gradient to statistics.

A type is looked up exactly: a subclass may compute something else, so it falls back to vmap.
Every function takes the module, its input x, the gradient b of its output and the number B of
records, and gives one statistic for each parameter that the module may have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpcore import ModelError
from trainers.layers.statistics import Factors, Formed, Sparse, Statistic

Rows = Callable[[nn.Module, Tensor, Tensor, int], dict[str, Statistic]]


def _linear(layer: nn.Module, x: Tensor, b: Tensor, records: int) -> dict[str, Statistic]:
    """weight: Σ_t b_t x_tᵀ; bias: Σ_t b_t, over all positions of a record."""
    a_BTI = x.reshape(records, -1, x.shape[-1])
    b_BTO = b.reshape(records, -1, b.shape[-1])
    return {
        "weight": Factors(a_BTI.transpose(1, 2)[:, None], b_BTO.transpose(1, 2)[:, None]),
        "bias": Formed(b_BTO.sum(1) if b_BTO.shape[1] > 1 else b_BTO[:, 0]),
    }


def _convolution(layer: nn.Module, x: Tensor, b: Tensor, records: int) -> dict[str, Statistic]:
    """weight: Σ_t b_t p_tᵀ over output positions t, where p_t is the input patch; bias: Σ_t b_t."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    q = layer.groups
    a_BqIT = patches(layer, x).unflatten(1, (q, -1)).flatten(2, -2)
    b_BqOT = b.reshape(records, q, layer.out_channels // q, -1)
    return {"weight": Factors(a_BqIT, b_BqOT), "bias": Formed(b_BqOT.sum(3).flatten(1))}


def patches(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """Every patch that the kernel meets: B × C × (kernel…) × T, padding and dilation included."""
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
        x = x.unfold(2 + d, reach, layer.stride[d])
    if any(layer.dilation[d] > 1 for d in dims):
        x = x[(..., *(slice(None, None, layer.dilation[d]) for d in dims))]
    x = x.permute(0, 1, *range(2 + n, 2 + 2 * n), *range(2, 2 + n))
    return x.flatten(2 + n)


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, d: int) -> tuple[int, int]:
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


def _embedding(layer: nn.Module, x: Tensor, b: Tensor, records: int) -> dict[str, Statistic]:
    """weight: b_t added to the row of the table that position t reads."""
    assert isinstance(layer, nn.Embedding)
    if layer.max_norm is not None or layer.scale_grad_by_freq:
        raise ModelError(
            "an embedding that rescales by what the batch holds has no row for one record",
            where="Embedding",
            got=f"max_norm={layer.max_norm}, scale_grad_by_freq={layer.scale_grad_by_freq}",
            remedy="Leave max_norm and scale_grad_by_freq at their defaults.",
        )
    b_BTE = b.reshape(records, -1, layer.embedding_dim)
    index_BT = x.reshape(records, -1).to(torch.int64)
    return {"weight": Sparse.merging(index_BT, b_BTE, layer.num_embeddings, layer.padding_idx)}


def _over_features(layer: nn.Module, x: Tensor, b: Tensor, records: int) -> dict[str, Statistic]:
    """weight: Σ_t b_t ⊙ x̂_t, bias: Σ_t b_t; normalised over the last dimensions."""
    if isinstance(layer, nn.LayerNorm):
        normal = F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    else:
        assert isinstance(layer, nn.RMSNorm)
        normal = F.rms_norm(x, layer.normalized_shape, eps=layer.eps)
    shape = (records, -1, *layer.normalized_shape)
    weight = (b * normal).reshape(shape).sum(1).flatten(1)
    return {"weight": Formed(weight), "bias": Formed(b.reshape(shape).sum(1).flatten(1))}


def _over_channels(layer: nn.Module, x: Tensor, b: Tensor, records: int) -> dict[str, Statistic]:
    """weight: Σ_t b_t ⊙ x̂_t, bias: Σ_t b_t for each channel, over its positions t."""
    if isinstance(layer, nn.GroupNorm):
        normal = F.group_norm(x, layer.num_groups, eps=layer.eps)
    else:
        assert isinstance(layer, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d)
        normal = F.instance_norm(x, eps=layer.eps)
    weight = (b * normal).flatten(2) if b.dim() > 2 else (b * normal)[..., None]
    bias = b.flatten(2) if b.dim() > 2 else b[..., None]
    return {"weight": Formed(weight.sum(2)), "bias": Formed(bias.sum(2))}


KNOWN: Mapping[type[nn.Module], Rows] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _over_features,
    nn.RMSNorm: _over_features,
    nn.GroupNorm: _over_channels,
    nn.InstanceNorm1d: _over_channels,
    nn.InstanceNorm2d: _over_channels,
    nn.InstanceNorm3d: _over_channels,
}


def rows_of(layer: nn.Module, x: Tensor, b: Tensor, records: int) -> dict[str, Statistic]:
    """The statistics of one call of a known layer, in float32 or wider.

    Under autocast the layer multiplied x rounded to the dtype of its output; so do the rows.
    """
    wide = torch.promote_types(b.dtype, torch.float32)
    if x.is_floating_point():
        x = x.to(b.dtype).to(wide)
    return KNOWN[type(layer)](layer, x, b.to(wide), records)
