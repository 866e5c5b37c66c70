"""Models and losses put together at random: layers, norms, reductions, masks, draws, state."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.laws.records.mixing_models import CLASSES, WIDTH, Built, Case

Op = Callable[[nn.Module, Tensor], Tensor]
REDUCTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mean": lambda x, d: x.mean(d, keepdim=True),
    "largest": lambda x, d: x.amax(d, keepdim=True),
    "spread": lambda x, d: x.std(d, keepdim=True, unbiased=False),
    "median": lambda x, d: x.median(d, keepdim=True).values,
    "running sum": lambda x, d: x.cumsum(d),
    "softmax": lambda x, d: x.softmax(d),
    "order": lambda x, d: x.sort(d).values,
    "neighbour": lambda x, d: x.roll(1, d),
    "norm": lambda x, d: x / (1 + x.norm(dim=d, keepdim=True)),
}


@dataclass
class Memory:
    """Something that is not a module and is hung on one."""

    seen: list[float] = field(default_factory=list)
    total: float = 0.0


class Generated(nn.Module):
    """Operations one after the other, each added to what it is given."""

    def __init__(self, ops: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self.ops = tuple(ops)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in ops)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in ops)
        self.out = nn.Linear(WIDTH, CLASSES)
        self.memory, self.last = Memory(), torch.zeros(())
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        for i, (name, axis) in enumerate(self.ops):
            x = x + self.norms[i](self.layers[i](self._one(name, axis, x)).tanh())
        return self.out(x)

    def _one(self, name: str, axis: int, x: Tensor) -> Tensor:
        if name in REDUCTIONS:
            return REDUCTIONS[name](x, axis)
        match name:
            case "mask":
                return torch.where(x > x.mean(axis, keepdim=True), x, 0)
            case "relu":
                return x.relu()
            case "dropout":
                return F.dropout(x, 0.5)
            case "coin":
                return x * random.choice((0.5, 2.0))
            case "branch":
                return x / 100 if x.abs().max() > 100 else x
            case "value":
                return x * float(x.abs().max())
            case "attribute":
                x, self.last = x + self.last, x.detach().mean()
                return x
            case "list":
                self.memory.seen.append(1.0)
                return x * len(self.memory.seen)
            case "number":
                self.memory.total += 1.0
                return x + self.memory.total
            case "buffer":
                self.count += 1
                return x + self.count
        raise AssertionError(name)


OPS = (*REDUCTIONS, "mask", "relu", "dropout", "coin", "branch", "value")
STATES = ("attribute", "list", "number", "buffer")
LOSSES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "cross-entropy": F.cross_entropy,
    "of each": lambda o, y: F.cross_entropy(o, y, reduction="none"),
    "summed": lambda o, y: F.cross_entropy(o, y, reduction="sum"),
    "against all targets": lambda o, y: ((o[:, :1] - y.float()) ** 2).mean(),
    "over the largest": lambda o, y: o.square().sum() / (1 + o.detach().abs().max()),
    "log-softmax over an axis": lambda o, y: -o.log_softmax(0).mean() + o.square().mean(),
    "a vector": lambda o, y: o.square().sum(0),
}


@st.composite
def generated(draw: st.DrawFn) -> Case:
    """A case of up to three operations, at most one of which keeps something."""
    axes = st.sampled_from((0, 1, -1))
    ops = draw(st.lists(st.tuples(st.sampled_from(OPS), axes), min_size=1, max_size=3))
    if draw(st.booleans()) and draw(st.booleans()):
        ops.append((draw(st.sampled_from(STATES)), 0))
    loss = LOSSES[draw(st.sampled_from(sorted(LOSSES)))]

    def build() -> Built:
        return Generated(ops), loss

    return Case(build, "refused" if any(name in STATES for name, _ in ops) else "apart")
