"""Every engine, and small models with records for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from dpigu.dpcore import Rows, Space, Transform
from dpigu.trainers.engines import (
    GhostEngine,
    MaterialisingEngine,
    Norms,
    RowEngine,
    reason_against,
    trainable,
)
from dpigu.trainers.tasks.losses import cross_entropy
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

ENGINES: dict[str, Callable[..., RowEngine]] = {
    "materialising": MaterialisingEngine,
    "ghost": GhostEngine,
}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(6, 3),
    "dense": lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 4, 2, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 3),
    ),
}


@dataclass(frozen=True)
class Task:
    """A model with some records of six numbers and three classes."""

    model: nn.Module
    x_B: Tensor
    y_B: Tensor

    @property
    def space(self) -> Space:
        return Space.of(trainable(self.model))

    def plain(self) -> Transform:
        """Rows as they come: no support, no row map."""
        return Transform(self.space, self.space, (), None)

    def rows(
        self,
        engine: str,
        transform: Transform,
        norms: Norms | None = None,
        *,
        x_B: Tensor | None = None,
        valid_B: Tensor | None = None,
    ) -> tuple[RowEngine, Rows]:
        """The records' rows by an engine, as one microbatch."""
        x_B = self.x_B if x_B is None else x_B
        valid_B = torch.ones(len(x_B), dtype=torch.bool) if valid_B is None else valid_B
        made = ENGINES[engine](
            self.model, cross_entropy, norms if norms is not None else Norms(None, 1), len(x_B)
        )
        weights = {name: p.detach() for name, p in trainable(self.model).items()}
        return made, made.rows(weights, x_B, self.y_B[: len(x_B)], valid_B, transform)


@st.composite
def tasks(draw: DrawFn) -> Task:
    """Any of the models, in either precision, with a few records of any scale."""
    seed = draw(st.integers(0, 999))
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS[draw(st.sampled_from(sorted(MODELS)))]().to(dtype)
    numbers = torch.Generator().manual_seed(seed)
    count = draw(st.integers(1, 6))
    scale_B = torch.tensor(draw(st.lists(st.sampled_from((0.0, 1e-3, 1.0, 1e3)), min_size=count)))
    x_B = torch.randn(count, 6, generator=numbers, dtype=dtype) * scale_B[:count, None].to(dtype)
    return Task(model, x_B, torch.randint(0, 3, (count,), generator=numbers))


def applies(engine: str, transform: Transform) -> bool:
    """Whether the engine takes this transform."""
    return engine != "ghost" or reason_against(transform) is None


def row_of(rows: Rows, at: int, count: int, groups: int = 1) -> Tensor:
    """One row, through the only door an engine has: the sum with weight 1 on it alone."""
    factors_BG = torch.zeros(count, groups, dtype=torch.float64)
    factors_BG[at] = 1.0
    return rows.weighted_sum(factors_BG).detach()
