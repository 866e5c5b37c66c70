"""What an operation costs: launches, bytes by dtype, products, and where the host waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "addmv")
MAKES_MEMORY = ("empty", "new_empty", "empty_strided", "new_empty_strided", "empty_like")


@dataclass
class Counts:
    """What was seen.

    Args:
        waits, mixed: what happened and where, and how often.
        moved: bytes read and written, by dtype.
        multiplied: operations of matrix products and convolutions, by dtype.
        peak: the most bytes of long float64 vectors that were held at once.
    """

    launches: int = 0
    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    mixed: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved: Counter[torch.dtype] = field(default_factory=Counter)
    multiplied: Counter[torch.dtype] = field(default_factory=Counter)
    peak: int = 0
    at_peak: Counter[str] = field(default_factory=Counter)

    def add(self, func: Any, name: str, given: Sequence[Any], out: Any) -> None:
        taken, made = tensors_in(given), tensors_in((out,))
        if name in MAKES_MEMORY or _is_view(func, taken, made):
            return
        self.launches += 1
        for v in {id(v): v for v in taken + made}.values():
            self.moved[v.dtype] += _distinct(v) * v.element_size()
        if made and (name.rstrip("_") in PRODUCTS or "convolution" in name):
            self.multiplied[made[0].dtype] += _operations(name, taken, made, given)


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Those among an operation's arguments or results, which nest once."""
    found: list[Tensor] = []
    for v in values:
        if isinstance(v, Tensor):
            found.append(v)
        elif isinstance(v, tuple | list):
            found += [part for part in v if isinstance(part, Tensor)]
    return found


def _is_view(func: Any, taken: list[Tensor], made: list[Tensor]) -> bool:
    if torch.Tag.inplace_view in func.tags or not made:
        return True
    if func._schema.is_mutable or not taken:
        return False
    held = {v.untyped_storage()._cdata for v in taken}
    return all(v.numel() == 0 or v.untyped_storage()._cdata in held for v in made)


def _distinct(v: Tensor) -> int:
    """Numbers of a tensor that lie in memory of their own."""
    count = 1
    for size, stride in zip(v.shape, v.stride(), strict=True):
        count *= size if stride else 1
    return count


def _operations(name: str, taken: list[Tensor], made: list[Tensor], given: Sequence[Any]) -> int:
    """Multiplications and additions of a product or a convolution."""
    if name == "convolution_backward":
        g, _, w = taken[:3]
        return 2 * g.numel() * w[0].numel() * sum(bool(wanted) for wanted in given[-1][:2])
    if "convolution" in name:
        return 2 * made[0].numel() * taken[1][0].numel()
    if name in ("dot", "mv"):
        return 2 * taken[0].numel()
    left = taken[1] if "add" in name else taken[0]
    return 2 * made[0].numel() * left.shape[-1]
