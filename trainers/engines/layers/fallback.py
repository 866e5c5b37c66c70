"""Any module's rows, by a vector-Jacobian product of its own for each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dpigu.trainers.engines.layers.parameter_rows import Formed, Statistic
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten


@dataclass(frozen=True)
class Axis:
    """Where a tensor holds the records: dimension `dim` is B × `fold` long."""

    dim: int
    fold: int

    def first(self, v: Tensor) -> Tensor:
        """B × fold × …, records first."""
        v = v.movedim(self.dim, 0)
        return v.reshape(-1, self.fold, *v.shape[1:])

    def back(self, v: Tensor) -> Tensor:
        """One record's part (fold × …), as the module takes it."""
        return v.movedim(0, self.dim)


@dataclass(frozen=True)
class Axes:
    """The record axis of every input and output leaf of a call; None where it has none."""

    inputs: tuple[Axis | None, ...]
    outputs: tuple[Axis | None, ...]


def vjp_rows(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    names: Sequence[str],
    leaves: Sequence[Any],
    spec: TreeSpec,
    cotangents: Mapping[int, Tensor],
    axes: Axes,
    mapped: bool,
    autocast: torch.dtype | None,
) -> dict[str, Statistic]:
    """Rows of the parameters `names` of one call of a module.

    row_i = ∂/∂θ ⟨b_i, module(θ, x_i)⟩, with b the gradient of the outputs

    Args:
        weights: the module's tensors by the names it gives them.
        leaves, spec: its inputs.
        cotangents: b for the output leaves, by position.
        axes: where the records are.
        mapped: by vmap; otherwise record by record, for modules that vmap cannot trace.
    """
    given = {at: axis for at, axis in enumerate(axes.inputs) if axis is not None}
    x_B = {at: axis.first(leaves[at]) for at, axis in given.items()}
    b_B = {}
    for at, b in cotangents.items():
        axis = axes.outputs[at]
        assert axis is not None
        b_B[at] = axis.first(b)
    other = {name: w.detach() for name, w in weights.items() if name not in names}

    def product(theta: dict[str, Tensor], x: dict[int, Tensor], b: dict[int, Tensor]) -> Tensor:
        one = [given[at].back(x[at]) if at in x else leaf for at, leaf in enumerate(leaves)]
        args, kwargs = tree_unflatten(one, spec)
        device = next(iter(b.values())).device.type
        with torch.autocast(device, dtype=autocast, enabled=autocast is not None):
            outputs, _ = tree_flatten(functional_call(module, {**other, **theta}, args, kwargs))
        total = torch.zeros((), device=device)
        for at, cotangent in b.items():
            axis = axes.outputs[at]
            assert axis is not None
            wide = torch.promote_types(cotangent.dtype, torch.float32)
            total = total + (outputs[at].to(wide) * axis.back(cotangent).to(wide)).sum()
        return total

    theta = {name: weights[name].detach() for name in names}
    if mapped:
        rows = vmap(grad(product), in_dims=(None, 0, 0), randomness="different")(theta, x_B, b_B)
    else:
        rows = _each(grad(product), theta, x_B, b_B)
    return {name: Formed(g.reshape(len(g), -1)) for name, g in rows.items()}


def _each(gradient: Any, theta: Any, x_B: dict[int, Tensor], b_B: dict[int, Tensor]) -> Any:
    """The same without vmap."""
    records = len(next(iter(b_B.values())))
    rows = [
        gradient(theta, {at: x[i] for at, x in x_B.items()}, {at: b[i] for at, b in b_B.items()})
        for i in range(records)
    ]
    return {name: torch.stack([row[name] for row in rows]) for name in theta}
