"""Spaces: how a flat vector is laid out, and the two values that only the kernel can mint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NoReturn

import torch
from dpigu.dpcore.devices import pieces, unwritten
from dpigu.dpcore.errors import GrammarError, PrivacyError
from torch import Tensor

Grouping = Literal["all", "parameter", "layer", "filter"]


@dataclass(frozen=True)
class Space:
    """The layout of a flat vector of length D: named blocks, one after the other.

    Args:
        names: one name a block, as `module.named_parameters()` gives them.
        shapes: one shape a block; D = Σ prod(shape).

    Examples:
        >>> Space(("weight", "bias"), ((2, 4), (2,))).size
        10
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes):
            raise GrammarError(
                "a space needs one shape for each name",
                where="Space",
                got=f"{len(self.names)} names, {len(self.shapes)} shapes",
            )

    @classmethod
    def flat(cls, name: str, size: int) -> Space:
        """A space of one block, such as the target of a projection."""
        return cls((name,), ((size,),))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Space:
        """The space of named tensors, in their order."""
        return cls(tuple(tensors), tuple(tuple(t.shape) for t in tensors.values()))

    @cached_property
    def size(self) -> int:
        """D, the number of coordinates."""
        return sum(math.prod(shape) for shape in self.shapes)

    def blocks(self) -> Iterator[tuple[str, slice, tuple[int, ...]]]:
        """Every block's name, its slice of the flat vector and its shape."""
        start = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            stop = start + math.prod(shape)
            yield name, slice(start, stop), shape
            start = stop

    def split(self, vector_D: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector (… × D), one a block, in the block's shape."""
        lead = vector_D.shape[:-1]
        return {name: vector_D[..., at].reshape(lead + shape) for name, at, shape in self.blocks()}

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `split`: one flat vector of length D."""
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def groups(self, by: Grouping) -> Tensor:
        """The group of every coordinate: int64 of length D, groups numbered from 0.

        `all` is one group, `parameter` one a block, `layer` one for all blocks of a module
        (the name up to its last dot), `filter` one for each output channel of a block with
        two or more dimensions (a block with fewer is one group).
        """
        if by == "all":
            return torch.zeros(self.size, dtype=torch.int64)
        labels: dict[object, int] = {}
        pieces = []
        for name, at, shape in self.blocks():
            size = at.stop - at.start
            if by == "filter" and len(shape) >= 2:
                first = len(labels)
                labels.update({(name, k): first + k for k in range(shape[0])})
                pieces.append(
                    torch.arange(first, first + shape[0]).repeat_interleave(size // shape[0])
                )
                continue
            key = name.rpartition(".")[0] if by == "layer" else name
            label = labels.setdefault(key, len(labels))
            pieces.append(torch.full((size,), label, dtype=torch.int64))
        return torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.int64)

    def group_count(self, by: Grouping) -> int:
        """The number of groups G that `groups(by)` has."""
        index_D = self.groups(by)
        return int(index_D.max()) + 1 if index_D.numel() else 1


_MINT: Final = object()


def _refuse(kind: str) -> NoReturn:
    raise PrivacyError(
        f"only the kernel can make a {kind} value",
        where=kind,
        remedy="Return what the kernel released, or derive from it with Released.derive.",
    )


class Bounded:
    """A sum of guarded rows with its sensitivity; private, and made by the kernel alone.

    `sensitivity` bounds the norm of one record's contribution, rounding included: the
    ℓ₂-sensitivity under add-or-remove-one, half of it under replace-one.
    """

    __slots__ = ("sensitivity", "value")

    def __init__(self, value: Tensor, sensitivity: Tensor, *, _mint: object = None) -> None:
        if _mint is not _MINT:
            _refuse("Bounded")
        self.value = value
        self.sensitivity = sensitivity


Variance = Tensor | Callable[[slice], Tensor]
"""Of every coordinate, or what tells that of some: a long vector that is read once is not made."""


def _at(variance: Variance, here: slice) -> Tensor:
    return variance[here] if isinstance(variance, Tensor) else variance(here)


class Released:
    """A vector computed from noised values and public constants only.

    It may be stored, logged and shown. `variance` is the known variance of its noise, per
    coordinate, and public.
    """

    __slots__ = ("_variance", "value")

    def __init__(self, value: Tensor, variance: Variance, *, _mint: object = None) -> None:
        if _mint is not _MINT:
            _refuse("Released")
        self.value = value
        self._variance = variance

    @property
    def variance(self) -> Tensor:
        """The variance of the noise in every coordinate, float64."""
        if isinstance(self._variance, Tensor):
            return self._variance
        variance_K = unwritten(len(self.value), self.value.device)
        for here in pieces(len(variance_K), variance_K.device):
            variance_K[here] = self._variance(here)
        return variance_K

    def variance_at(self, here: slice) -> Tensor:
        """The variance of some coordinates, not to be written to."""
        return _at(self._variance, here)

    def derive(self, value: Tensor, variance: Variance) -> Released:
        """A released vector computed from this one (post-processing, Dwork & Roth 2014)."""
        return Released(value, variance, _mint=_MINT)

    def on(self, support_K: Tensor) -> Released:
        """The same on a support; value and variance are 0 elsewhere."""
        value_K, variance = unwritten(len(self.value), self.value.device), self._variance
        for here in pieces(len(value_K), value_K.device):
            value_K[here] = torch.where(support_K[here], self.value[here], 0.0)
        return self.derive(
            value_K, lambda here: torch.where(support_K[here], _at(variance, here), 0.0)
        )

    def __repr__(self) -> str:
        return f"Released({tuple(self.value.shape)}, {self.value.dtype})"
