"""Rules under vmap of this project's own: a record at a time in law, side by side in memory.

A layer or an attention maps every record by itself, so its rule lays the records side by side and
runs torch's own operation once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def first(v: Any, dim: int | None, records: int) -> Any:
    """Records first, also where v is the same for every record."""
    if v is None:
        return None
    return v.expand(records, *v.shape) if dim is None else v.movedim(dim, 0)


class SideBySide(torch.autograd.Function):
    """A map of every record by itself; its rule under vmap gets them all, records first.

    `at` is the record's number: mapped even where x is the same for every record.
    """

    @staticmethod
    def forward(x: Tensor, at: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
        raise NotImplementedError("a known layer has a rule under vmap alone")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise NotImplementedError("a known layer has a rule under vmap alone")

    @staticmethod
    def vmap(info: Any, dims: Any, x: Tensor, at: Tensor, rule: Any) -> tuple[Any, int]:
        x_B = first(x, dims[0], info.batch_size)
        if torch._C._functorch.is_functorch_wrapped_tensor(x_B):  # the model's own vmap
            return SideBySide.apply(x_B, at, rule), 0  # type: ignore[no-untyped-call]  # torch's
        return rule(x_B), 0


class _Attention(torch.autograd.Function):
    """Scaled dot-product attention of every record by itself: records join the batch."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rule: Any) -> Tensor:
        out: Tensor = rule(q, k, v, mask)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing that is differentiated comes by here."""

    @staticmethod
    def vmap(info: Any, dims: Any, *given: Any) -> tuple[Any, int]:
        *tensors, rule = given
        side = [first(v, d, info.batch_size) for v, d in zip(tensors, dims, strict=False)]
        if any(torch._C._functorch.is_functorch_wrapped_tensor(v) for v in side if v is not None):
            return _Attention.apply(*side, rule), 0  # type: ignore[no-untyped-call]  # torch's
        out = rule(*(v if v is None else v.flatten(0, -4) for v in side))
        return out.unflatten(0, side[0].shape[:-3]), 0


class Fused(TorchFunctionMode):
    """Attention without dropout stays fused under vmap."""

    def __torch_function__(
        self, f: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if f is F.scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        return f(*args, **(kwargs or {}))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    **options: Any,
) -> Tensor:
    """The function of that name, a record at a time."""
    attention = F.scaled_dot_product_attention
    lead = query.shape[:-3]
    alike = all(v.dim() >= 3 and v.shape[:-3] == lead for v in (query, key, value))
    if not alike or dropout_p:
        return attention(query, key, value, attn_mask, dropout_p, **options)
    if attn_mask is not None:
        mask = attn_mask[None] if attn_mask.dim() == 2 else attn_mask
        attn_mask = mask.expand(*lead, *mask.shape[-3:])

    def rule(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return attention(q, k, v, mask, **options)

    out: Tensor = _Attention.apply(query, key, value, attn_mask, rule)  # type: ignore[no-untyped-call]  # torch's
    return out
