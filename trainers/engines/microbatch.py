"""How many records a microbatch holds: from public shapes and a memory budget, nothing else.

The realised batch is private, and so is everything that depends on it; a microbatch's size never
does. It changes time and memory and, but for rounding, no result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from dpigu.trainers.engines.records import Tree, called, device_of
from torch import nn
from torch.utils._pytree import tree_leaves

MATRICES = 4
"""B × D matrices that the materialising engine holds at once: per layer, joined, mapped, float64
blocks."""


@dataclass(frozen=True)
class Budget:
    """What a microbatch may take, in numbers of float32.

    Args:
        memory: never passed, unless by a single record.
        cache: where larger microbatches stop being faster.
        least: records that share what a microbatch costs by itself, if memory allows.
        most: records.
    """

    memory: int
    cache: int
    least: int
    most: int

    def records(self, numbers: int) -> int:
        """Records of so many numbers each."""
        numbers = max(numbers, 1)
        wanted = min(max(self.cache // numbers, self.least), self.most)
        return max(1, min(wanted, self.memory // numbers))


FAST = Budget(memory=2**28, cache=2**22, least=16, most=512)
WHOLE = Budget(memory=2**28, cache=2**25, least=8, most=128)
"""On a CPU: 1 GiB, and 16 MiB of activations or 128 MiB of rows."""
ON_DEVICE = Budget(memory=2**30, cache=2**30, least=1, most=4096)
"""On a GPU: 4 GiB."""


def automatic(model: nn.Module, x_1: Tree, coordinates: int, *, fast: bool) -> int:
    """Records in a microbatch of an engine: the most that its budget allows.

    Args:
        model: on the device.
        x_1: a made-up record's input, 1 × …, there too.
        coordinates: D.
        fast: the fast engine holds what the layers put out; the others hold rows of D as well.
    """
    numbers = activations(model, x_1)
    if not fast:
        numbers += MATRICES * coordinates
    if device_of(x_1).type != "cpu":
        return ON_DEVICE.records(numbers)
    return (FAST if fast else WHOLE).records(numbers)


def evened(records: int, expected_batch: float) -> int:
    """The microbatch, at most `records`, that cuts a usual batch into equal pieces, two or more.

    The last piece is padded. A batch rarely passes E + 2√E, with E the expected one; in one
    piece of E, every second batch would need another that is nearly all padding.
    """
    usual = expected_batch + 2 * math.sqrt(expected_batch)
    return math.ceil(usual / max(2, math.ceil(usual / records)))


@torch.no_grad()
def activations(model: nn.Module, x_1: Tree) -> int:
    """Numbers that one made-up record's layers put out, its input included."""
    total: int = sum(v.numel() for v in tree_leaves(x_1))

    def count(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal total
        total += sum(v.numel() for v in tree_leaves(output) if isinstance(v, torch.Tensor))

    leaves = [m for m in model.modules() if next(m.children(), None) is None]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        called(model, {}, x_1)
    finally:
        for handle in handles:
            handle.remove()
    return total
