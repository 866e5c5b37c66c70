"""What the fast engine does with a model, settled once on made-up records and checked there.

Its rows are compared with plain `vmap(grad)`. A parameter whose rows do not agree (a layer's
weight that is read outside of its forward, say) is differentiated a record at a time. This is
a check of correctness: records are apart by construction either way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.distributed import is_sharded
from dpigu.trainers.engines.capture import Capture
from dpigu.trainers.engines.guards import no_rules_of_users, reseeded
from dpigu.trainers.engines.layers import ParameterRows, Workspace
from dpigu.trainers.engines.layers.parameter_rows import from_layout
from dpigu.trainers.engines.records import LossOfOne, MadeUp, Tree, device_of
from dpigu.trainers.engines.sharded import checked_sharded
from dpigu.trainers.engines.vmap_rules.recurrent import unrolled
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils._pytree import tree_leaves, tree_map

RECORDS = 4
AGREEMENT = 1e-2
"""How far a made-up record's row may be from autograd's, relatively: rounding, and no more."""
NOISE = 1e-5
"""The same relative to the record's whole gradient: some rows are zero but for rounding."""


def checked(
    loss: LossOfOne, weights: Mapping[str, Tensor], names: Collection[str], x_B: Tree, y_B: Tree
) -> Capture:
    """How the rows of the parameters `names` are collected, from shapes and dtypes of a batch.

    Errors: `ModelError` for a module that keeps statistics of other records, for a model that
    takes no record, and for rows that do not agree with autograd's.
    """
    refuse_batch_statistics(loss.model)
    if is_sharded(loss.model):
        return checked_sharded(loss, weights, names, x_B, y_B)
    exact = replace(loss, autocast=None)
    made_up = MadeUp.fitting(exact, weights, x_B, y_B)
    beside: set[str] = set()
    for _ in range(2):
        capture = Capture.of(exact, names, beside)
        beside = _disagreeing(capture, weights, names, made_up) - capture.apart
        if not beside:
            return replace(
                capture, loss=loss, memory_format=_format(capture, weights, names, made_up)
            )
    raise ModelError(
        "the rows of these parameters do not agree with autograd's gradient",
        where=type(loss.model).__name__,
        got=sorted(beside),
        remedy="Use the materialising engine.",
    )


def refuse_batch_statistics(model: nn.Module) -> None:
    """An error for layers that keep or use what other records were."""
    for path, module in model.named_modules():
        mixes = isinstance(module, _BatchNorm)
        tracks = isinstance(module, _InstanceNorm) and module.track_running_stats
        if (mixes or tracks) and module.training:
            raise ModelError(
                "it keeps statistics of other records, so no record has a gradient of its own",
                where=path or "the model",
                got=type(module).__name__,
                remedy="Normalise within the record, for example with torch.nn.GroupNorm.",
            )
        rescales = isinstance(module, nn.Embedding | nn.EmbeddingBag)
        if rescales and (module.max_norm is not None or module.scale_grad_by_freq):
            raise ModelError(
                "an embedding that rescales by what the batch holds has no row for one record",
                where=path or "the model",
                got=f"max_norm={module.max_norm}, scale_grad_by_freq={module.scale_grad_by_freq}",
                remedy="Leave max_norm and scale_grad_by_freq at their defaults.",
            )


def _collected(
    capture: Capture, weights: Mapping[str, Tensor], names: Collection[str], x_B: Tree, y_B: Tree
) -> dict[str, ParameterRows]:
    found: dict[str, ParameterRows] = {}
    with reseeded(device_of(x_B), seed=0):
        capture.collect(weights, x_B, y_B, Workspace(), names, finish=found.__setitem__)
    return found


def _format(
    capture: Capture, weights: Mapping[str, Tensor], names: Collection[str], made_up: MadeUp
) -> torch.memory_format:
    """Channels last where it is fast: two-dimensional convolutions in float32 on a CPU.

    Pooling and patches move half the memory. A model that calls `view` on an image
    cannot have it.
    """
    images = any(isinstance(m, nn.Conv2d) for m in capture.loss.model.modules())
    x_B, y_B = made_up(2)
    fast = (v.dim() == 4 and v.dtype == torch.float32 for v in tree_leaves(x_B))
    if not images or device_of(x_B).type != "cpu" or not any(fast):
        return torch.contiguous_format
    last = replace(capture, memory_format=torch.channels_last)
    try:
        _collected(last, weights, names, x_B, y_B)
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last


def _wide(v: Tensor) -> Tensor:
    return v.to(torch.float64) if v.is_floating_point() else v


def _both(
    capture: Capture, names: Collection[str], weights: Mapping[str, Tensor], x_B: Tree, y_B: Tree
) -> tuple[Mapping[str, ParameterRows], Mapping[str, Tensor]]:
    """The rows as collected, and those of vmap(grad), B × P each."""
    free = {name: weights[name].detach() for name in names}
    fixed = {name: w.detach() for name, w in weights.items() if name not in free}

    def loss(values: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
        return capture.loss({**fixed, **values}, x, y)

    rows = _collected(capture, weights, names, x_B, y_B)
    with reseeded(device_of(x_B), seed=0), no_rules_of_users(), unrolled(capture.loss.model):
        mapped = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
        expected = {name: g.flatten(1) for name, g in mapped(free, x_B, y_B).items()}
    return rows, expected


def _disagreeing(
    capture: Capture, weights: Mapping[str, Tensor], names: Collection[str], made_up: MadeUp
) -> set[str]:
    """The parameters whose rows on made-up records differ from those of vmap(grad)."""
    x_B, y_B = made_up(RECORDS)
    buffers = dict(capture.loss.model.named_buffers())
    try:
        wide = tree_map(_wide, ({**buffers, **weights}, x_B, y_B))
        rows, expected = _both(capture, names, *wide)
    except RuntimeError:  # a constant in the model's own precision
        rows, expected = _both(capture, names, weights, x_B, y_B)
    whole_B = torch.stack([g.norm(dim=1) for g in expected.values()]).norm(dim=0)
    return {
        name
        for name, true_BP in expected.items()
        if not all(_agrees(rows[name], b, true_BP[b], whole_B[b]) for b in range(RECORDS))
    }


def _agrees(rows: ParameterRows, b: int, true_P: Tensor, whole: Tensor) -> bool:
    """Whether one record's row is autograd's: one at a time, for they are the memory of a check."""
    row_P = from_layout(rows.block(b, b + 1), rows.layout)[0].to(true_P)
    same_P = (row_P == true_P) | (row_P.isnan() & true_P.isnan())
    apart = (row_P - true_P).masked_fill_(same_P, 0).norm()
    return bool((apart <= AGREEMENT * true_P.norm() + NOISE * whole) | same_P.all())
