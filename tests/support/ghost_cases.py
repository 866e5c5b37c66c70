"""Models, transforms and the statements that both engines must satisfy; shared by the tests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from dpigu.dpcore import Affine, DenseRows, Rows, Space, State, Transform
from dpigu.dpcore.spaces import Grouping
from dpigu.trainers.engines.ghost import GhostEngine
from dpigu.trainers.engines.materialising import MaterialisingEngine, Norms, trainable
from torch import Tensor, nn

BATCH, ALIVE = 5, 4


@dataclass(frozen=True)
class Case:
    """A small model and the shape of its records.

    `tokens` is a vocabulary, 0 for real inputs; `mapped` whether vmap, and so the
    materialising engine, can trace the model.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: int = 0
    mapped: bool = True


def loss(outputs: Tensor, y_B: Tensor) -> Tensor:
    """One smooth loss a record, over outputs of any shape."""
    outputs = outputs.flatten(1)
    return (outputs.sin() * torch.linspace(0.5, 1.5, outputs.shape[1]).to(outputs)).sum(1) * (
        1 + y_B
    )


@dataclass(frozen=True)
class AffineSlice:
    """A diagonal affine row map with given weight and shift."""

    weight_D: Tensor
    shift_D: Tensor

    def output_space(self, space: Space) -> Space:
        return space

    def affine(self, state: State) -> Affine:
        return Affine(self.weight_D, self.shift_D)

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return self.weight_D.to(g_D) * g_D - self.shift_D.to(g_D)


def transform_of(space: Space, kind: str, seed: int) -> Transform:
    """none, support, layers (a scale a block), scaled (a scale a coordinate, and a support),
    centred (with a shift), frozen (the first block is off the support)."""
    draw = torch.Generator().manual_seed(seed)
    uniform = torch.rand(space.size, generator=draw, dtype=torch.float64)
    support = torch.rand(space.size, generator=draw) < 0.6
    zero = torch.zeros_like(uniform)
    if kind == "none":
        return Transform(space, space, (), None)
    if kind == "support":
        return Transform(space, space, (), support)
    if kind == "frozen":
        support = torch.ones_like(support)
        support[next(iter(space.blocks()))[1]] = False
        return Transform(space, space, (), support)
    if kind == "layers":
        weight = zero.clone()
        for k, (_, at, _) in enumerate(space.blocks()):
            weight[at] = 0.25 + k
        return Transform(space, space, ((AffineSlice(weight, zero), {}),), None)
    weight = 0.1 + 2 * uniform
    if kind == "scaled":
        return Transform(space, space, ((AffineSlice(weight, zero), {}),), support)
    shift = torch.randn(space.size, generator=draw, dtype=torch.float64)
    return Transform(space, space, ((AffineSlice(weight, shift), {}),), support)


TRANSFORMS = ("none", "support", "frozen", "layers", "scaled", "centred")
GROUPINGS: tuple[Grouping, ...] = ("all", "parameter", "layer", "filter")


@dataclass(frozen=True)
class Pair:
    """The rows of both engines for one batch, and the fast engine.

    `rounding` is what the condition of the rows allows beside their precision: how far the
    materialising engine's are, in this precision, from those in float64.
    """

    fast: Rows
    full: Rows
    engine: GhostEngine
    groups: int
    dtype: torch.dtype
    rounding: float = 0.0

    def factors(self) -> Tensor:
        draw = torch.Generator().manual_seed(3)
        c_BG = torch.rand(BATCH, self.groups, generator=draw, dtype=torch.float64)
        c_BG[ALIVE:] = 0
        return c_BG

    def check_norms(self) -> None:
        """Not below the true norm of the row that is summed, and within 1e-10 or 1e-5 of it;
        the same as the materialising engine's. What gram adds is 1e-5 of the row's terms."""
        upper_BG = self.fast.norm_upper_bounds()
        assert bool((upper_BG[ALIVE:] == torch.inf).all())
        upper_BG = upper_BG[:ALIVE]
        close = 1e-10 if self.dtype == torch.float64 else 1e-5
        if any(way.startswith("gram") for way in self.engine.choices().values()):
            close = 1e-4
        full_BG = self.full.norm_upper_bounds()[:ALIVE]
        largest = full_BG.amax()
        apart = (upper_BG - full_BG).abs()
        slack = close * 1e-2 * largest + 16 * self.rounding + 1e-99
        assert bool((apart <= close * full_BG + slack).all())
        for g in range(self.groups):
            rows = torch.stack([self.row(i, g) for i in range(ALIVE)])
            true_B = torch.linalg.vector_norm(rows, dim=1)
            assert bool((upper_BG[:, g] >= true_B * (1 - 1e-14)).all()), "a norm below the true one"
            assert bool((upper_BG[:, g] <= true_B * (1 + close) + slack).all())

    def row(self, record: int, group: int) -> Tensor:
        """One record's row as the fast engine sums it, on the coordinates of one group."""
        one_BG = torch.zeros(BATCH, self.groups, dtype=torch.float64)
        one_BG[record, group] = 1
        return self.fast.weighted_sum(one_BG)

    def check_sums(self) -> None:
        """Σ c z agrees to 1e-10 or 1e-5 of Σ c ‖z‖."""
        c_BG = self.factors()
        norms = self.full.norm_upper_bounds()[:ALIVE]
        scale = (c_BG[:ALIVE] * norms).sum()
        error = (self.fast.weighted_sum(c_BG) - self.full.weighted_sum(c_BG)).norm()
        close = 1e-10 if self.dtype == torch.float64 else 1e-5
        assert error <= close * scale + 16 * self.rounding * c_BG.sum()

    def check(self) -> None:
        self.check_norms()
        self.check_sums()


def batch_of(case: Case, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and who is valid; the padding holds values that are not finite."""
    draw = torch.Generator().manual_seed(seed)
    if case.tokens:
        x_B = torch.randint(case.tokens, (BATCH, *case.shape), generator=draw)
    else:
        x_B = torch.randn((BATCH, *case.shape), generator=draw, dtype=torch.float64).to(dtype)
        x_B[ALIVE:] = torch.nan
    y_B = torch.randint(3, (BATCH,), generator=draw)
    return x_B, y_B, torch.arange(BATCH) < ALIVE


def wide_of(x: Tensor) -> torch.dtype:
    return torch.float64 if x.is_floating_point() else x.dtype


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One record's gradient by plain autograd."""
    values = list(trainable(model).values())
    total = loss(model(x[None]), y[None]).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, values)])


def pair(
    case: Case,
    *,
    transform: str = "none",
    grouping: Grouping = "all",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    weights: Mapping[str, Tensor] | None = None,
) -> Pair:
    """Both engines on one batch of a case."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = case.build().to(dtype)
    space = Space.of(trainable(model))
    at = dict(trainable(model)) if weights is None else dict(weights)
    norms = Norms(space.groups(grouping), space.group_count(grouping))
    chosen = transform_of(space, transform, seed)
    x_B, y_B, valid_B = batch_of(case, dtype, seed)
    fast, rounding = GhostEngine(model, loss, norms, BATCH), 0.0
    if case.mapped:
        engine = MaterialisingEngine(model, loss, norms, BATCH)
        full = engine.rows(at, x_B, y_B, valid_B, chosen)
        if dtype != torch.float64:
            double = MaterialisingEngine(copy.deepcopy(model).double(), loss, norms, BATCH)
            wide = {name: p.double() for name, p in at.items()}
            exact = double.rows(wide, x_B.to(wide_of(x_B)), y_B, valid_B, chosen)
            apart_BK = (full.rows.z_BK - exact.rows.z_BK)[:ALIVE]
            rounding = float(apart_BK.detach().norm(dim=1).max())
    else:
        g_BD = torch.stack([_gradient(model, x, y) for x, y in zip(x_B, y_B, strict=True)])
        full = DenseRows(chosen(g_BD), norms.groups_K, norms.count)
    return Pair(
        fast.rows(at, x_B, y_B, valid_B, chosen),
        full,
        fast,
        norms.count,
        dtype,
        rounding,
    )
