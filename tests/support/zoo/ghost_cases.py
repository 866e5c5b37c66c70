"""Models, transforms and the statements that both engines must satisfy; shared by the tests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from dpigu.dpcore import Affine, DenseRows, Rows, Space, State, Transform
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.trainers.engines import GhostEngine, MaterialisingEngine, Norms, trainable
from torch import Tensor, nn

from tests.support.monte_carlo_arithmetic import MonteCarloArithmetic

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
    weighs_by_parameter: bool = False

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
        return Transform(space, space, ((AffineSlice(weight, zero, True), {}),), None)
    weight = 0.1 + 2 * uniform
    if kind == "scaled":
        return Transform(space, space, ((AffineSlice(weight, zero), {}),), support)
    shift = torch.randn(space.size, generator=draw, dtype=torch.float64)
    return Transform(space, space, ((AffineSlice(weight, shift), {}),), support)


TRANSFORMS = ("none", "support", "frozen", "layers", "scaled", "centred")
GROUPINGS: tuple[Grouping, ...] = ("all", "parameter", "layer", "filter")


SAMPLES = 16
ROUNDINGS = 16
"""Relative error of each perturbed operand, in units of roundoff: a sum in any order, an
exponential and a fused kernel err by a few."""


@dataclass(frozen=True)
class Referee:
    """The valid records' rows in float64, and how far an engine's rounding may move each.

    `error_BG` is a distance between rows, on the coordinates of each group `groups_K`.
    """

    row_BK: Tensor
    groups_K: Tensor
    error_BG: Tensor

    def norms(self, row_BK: Tensor) -> Tensor:
        """The norm of each row on each group's coordinates."""
        square_BG = torch.zeros_like(self.error_BG)
        return square_BG.index_add_(1, self.groups_K, row_BK.square()).sqrt_()


def well_conditioned(row_BK: Tensor, norms: Norms) -> Referee:
    """Rows in float64 of a net of condition 1e5: to 1e-10, and to 1e-12 of the largest."""
    groups_K = torch.zeros(row_BK.shape[1]).long() if norms.groups_K is None else norms.groups_K
    referee = Referee(row_BK, groups_K, torch.zeros(len(row_BK), norms.count).double())
    norms_BG = referee.norms(row_BK)
    return replace(referee, error_BG=1e-10 * norms_BG + 1e-12 * norms_BG.max() + 1e-99)


def conditioned(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    x_B: Tensor,
    y_B: Tensor,
    transform: Transform,
    norms: Norms,
) -> Referee:
    """The rows of the same net in float64, to twice the spread of perturbed runs of it.

    A normalisation of few numbers, or a ReLU near its kink, lets rounding move a row far; then
    it moves the perturbed rows as far.
    """
    precise = copy.deepcopy(model).double()
    at = {name: value.detach().double() for name, value in weights.items()}
    wide_B = x_B.double() if x_B.is_floating_point() else x_B
    referee = well_conditioned(gradients(precise, at, wide_B, y_B, transform), norms)
    unit_roundoff = torch.finfo(next(iter(weights.values())).dtype).eps / 2
    with MonteCarloArithmetic(ROUNDINGS * unit_roundoff, seed=0):
        x_nB, y_nB = torch.cat([wide_B] * SAMPLES), torch.cat([y_B] * SAMPLES)
        row_nBK = gradients(precise, at, x_nB, y_nB, transform)
    moved = [referee.norms(row_BK - referee.row_BK) for row_BK in row_nBK.split(len(x_B))]
    return replace(referee, error_BG=2 * torch.stack(moved).amax(0) + 1e-99)


def gradients(
    model: nn.Module, weights: Mapping[str, Tensor], x_B: Tensor, y_B: Tensor, transform: Transform
) -> Tensor:
    """Every record's transformed gradient by torch.func, with no engine of ours."""

    def one(weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(torch.func.functional_call(model, dict(weights), (x[None],)), y[None]).sum()

    g = torch.func.vmap(torch.func.grad(one), (None, 0, 0))(dict(weights), x_B, y_B)
    return transform(torch.cat([g[name].flatten(1) for name in weights], 1))


@dataclass(frozen=True)
class Pair:
    """The rows of both engines for one batch, their referee, and the fast engine."""

    fast: Rows
    full: Rows
    referee: Referee
    engine: GhostEngine
    dtype: torch.dtype
    rounding: float = 0.0

    def factors(self) -> Tensor:
        draw = torch.Generator().manual_seed(3)
        groups = self.referee.error_BG.shape[1]
        c_BG = torch.rand(BATCH, groups, generator=draw, dtype=torch.float64)
        c_BG[ALIVE:] = 0
        return c_BG

    def check_norms(self, rows: Rows) -> None:
        """Not below the true norm of the row that is summed, and within 1e-10 or 1e-5 of it;
        and that row is the referee's, to its error. What gram adds is 1e-5 of the row's terms."""
        upper_BG = rows.norm_upper_bounds()
        assert bool((upper_BG[ALIVE:] == torch.inf).all())
        upper_BG = upper_BG[:ALIVE]
        row_BK = self.summed(rows)
        true_BG = self.referee.norms(row_BK)
        assert bool((upper_BG >= true_BG * (1 - 1e-14)).all()), "a norm below the true one"
        close = 1e-10 if self.dtype == torch.float64 else 1e-5
        if any(way.startswith("gram") for way in self.engine.choices().values()):
            close = 1e-4
        slack = close * 1e-2 * true_BG.max() + 1e-99
        assert bool((upper_BG <= true_BG * (1 + close) + slack).all()), "a norm that is too large"
        apart_BG = self.referee.norms(row_BK - self.referee.row_BK)
        assert bool((apart_BG <= self.referee.error_BG).all()), "another row than the referee's"

    def summed(self, rows: Rows) -> Tensor:
        """Each record's row as it is summed, alone and with factor 1."""
        one_BG = torch.zeros_like(self.factors())
        alone = [one_BG.index_fill(0, torch.tensor(i), 1.0) for i in range(ALIVE)]
        return torch.stack([rows.weighted_sum(c_BG) for c_BG in alone])

    def check_sums(self, rows: Rows) -> None:
        """Σ c z agrees with the referee's to Σ c error."""
        c_BG = self.factors()[:ALIVE]
        referee = self.referee
        expected_K = (c_BG[:, referee.groups_K] * referee.row_BK).sum(0)
        error = (rows.weighted_sum(self.factors()) - expected_K).norm()
        assert error <= (c_BG * referee.error_BG).sum(), "another sum than the referee's"

    def check(self) -> None:
        for rows in (self.fast, self.full):
            self.check_norms(rows)
            self.check_sums(rows)


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


def _one_by_one(model: nn.Module, x_B: Tensor, y_B: Tensor, transform: Transform) -> Tensor:
    """Every record's transformed gradient by plain autograd, for what vmap cannot trace."""
    values = list(trainable(model).values())
    losses = [loss(model(x[None]), y[None]).sum() for x, y in zip(x_B, y_B, strict=True)]
    rows = [torch.autograd.grad(one, values) for one in losses]
    return transform(torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]))


def pair(
    case: Case,
    *,
    transform: str = "none",
    grouping: Grouping = "all",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    weights: Mapping[str, Tensor] | None = None,
) -> Pair:
    """Both engines on one batch of a case, and their referee."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = case.build().to(dtype)
    space = Space.of(trainable(model))
    at = dict(trainable(model)) if weights is None else dict(weights)
    norms = Norms(space.groups(grouping), space.group_count(grouping))
    chosen = transform_of(space, transform, seed)
    x_B, y_B, valid_B = batch_of(case, dtype, seed)
    engine = GhostEngine(model, loss, norms, BATCH)
    fast = engine.rows(at, x_B, y_B, valid_B, chosen)
    if case.mapped:
        full = MaterialisingEngine(model, loss, norms, BATCH).rows(at, x_B, y_B, valid_B, chosen)
    else:
        full = DenseRows(_one_by_one(model, x_B, y_B, chosen), norms.groups_K, norms.count)
    x_B, y_B = x_B[:ALIVE], y_B[:ALIVE]
    if case.mapped:
        referee = conditioned(model, at, x_B, y_B, chosen, norms)
    else:
        referee = well_conditioned(_one_by_one(model, x_B, y_B, chosen), norms)
    return Pair(fast, full, referee, engine, dtype)
