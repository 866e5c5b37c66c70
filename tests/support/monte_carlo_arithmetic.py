"""Monte Carlo arithmetic: how far rounding may move a computation, whatever the machine.

Every operation's operands are perturbed by a random relative error; the spread of a few such
runs is the computation's condition times that error. It bounds the rounding of any kernel that
sums in any order, and it depends on no machine's own rounding.

Source: Parker 1997, "Monte Carlo arithmetic", UCLA CSD-970002.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
_WHOLE = (
    aten.native_layer_norm,
    aten.native_layer_norm_backward,
    aten.native_group_norm,
    aten.native_group_norm_backward,
    aten.native_batch_norm,
    aten.native_batch_norm_backward,
    aten.cudnn_batch_norm,
)
"""Operations whose terms cancel inside: they are taken apart first."""


class MonteCarloArithmetic(TorchDispatchMode):
    """Inside it, every floating operand v of every operation is v (1 + size·ξ), |ξ| ≤ 1.

    ξ is uniform, from `seed`. Views and operations in place see their operands as they are; what
    they pass on is perturbed at the next operation.
    """

    def __init__(self, size: float, seed: int) -> None:
        super().__init__()
        self.size = size
        self.draw = torch.Generator().manual_seed(seed)
        self.parts: Mapping[Any, Any] = get_decompositions(_WHOLE)

    def __torch_dispatch__(
        self, function: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self.parts:
            with self:
                return self.parts[function](*args, **kwargs)
        if function.is_view or function._schema.is_mutable:
            return function(*args, **kwargs)
        return function(*tree_map(self._perturbed, args), **tree_map(self._perturbed, kwargs))

    def _perturbed(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        error = torch.rand(value.shape, generator=self.draw, dtype=value.dtype)
        return value * (1 + self.size * (2 * error - 1))
