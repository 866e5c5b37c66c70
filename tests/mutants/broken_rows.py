"""Broken row maps, and the hidden roads from a private row to a released value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from dpigu.dpcore import Affine, PhaseContext, Reads, Release, Released, Space, State
from torch import Tensor

from tests.mutants.table import broken

SEEN: list[Tensor] = []
MASK: dict[str, Tensor] = {}
LAST: list[Tensor] = [torch.zeros(1)]
MEAN: dict[str, Any] = {"sum": 0.0}


def escaped(tensor: Tensor) -> Tensor:
    """The whole batch behind a row that is being mapped: a way out of vmap."""
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor.detach().clone()


class _Same:
    def output_space(self, space: Space) -> Space:
        return space


@broken("row", by="writes-nothing", says="writes")
@dataclass(frozen=True, kw_only=True)
class CapturesRows(_Same):
    """Keeps every row that it sees in a module's list."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        SEEN.append(g_D)
        return g_D


@broken("row", by="writes-nothing", says="writes")
@dataclass(frozen=True, kw_only=True)
class CachesTheFirstRow(_Same):
    """Scales by the first row that it ever sees, kept on its class."""

    _cache: ClassVar[dict[str, Tensor]] = {}

    def row(self, state: State, g_D: Tensor) -> Tensor:
        self._cache.setdefault("first", g_D)
        return g_D


@broken("row", by="writes-nothing", says="a function that sees a private record writes")
@dataclass(frozen=True, kw_only=True)
class CentresByARunningMean(_Same):
    """Keeps the mean of all rows so far, which the next call cannot even use."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        MEAN["sum"] = MEAN["sum"] + g_D
        return g_D - MEAN["sum"]


def _remembering() -> Any:
    longest = torch.zeros(())

    def row(self: object, state: State, g_D: Tensor) -> Tensor:
        nonlocal longest
        longest = escaped(g_D).abs().max()
        return g_D

    return row


@broken("row", by="writes-nothing", says="writes")
@dataclass(frozen=True, kw_only=True)
class RemembersInAClosure(_Same):
    """Keeps the largest coordinate in a variable of an enclosing function."""

    row = _remembering()


@broken("row", by="writes-nothing", says="writes")
@dataclass(frozen=True, kw_only=True)
class PerRecordSupport(_Same):
    """Hands the coordinates that a record keeps to whoever draws the noise."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        MASK["live"] = escaped(g_D).abs() > 0.5
        return g_D


@broken("clipper", by="writes-nothing", says="writes")
@dataclass(frozen=True, kw_only=True)
class CountsTheBatch:
    """Counts the records that are present: the realised batch size."""

    groups: ClassVar[str] = "all"
    count: ClassVar[list[int]] = [0]

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(1.0, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        self.count[0] += 1
        return (1 / norms_G).clamp(max=1)


class _Remembers(_Same):
    def row(self, state: State, g_D: Tensor) -> Tensor:
        LAST[0] = escaped(g_D).mean()
        return g_D


@broken("row", by="reads-released-only", says="the state 'mean' .* depends on private rows")
@dataclass(frozen=True, kw_only=True)
class StatisticsFromRawGradients(_Remembers):
    """Moments of the gradients before the noise, as in the paper's released code."""

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"mean": torch.zeros((), dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"mean": 0.9 * state["mean"] + 0.1 * LAST[0].double()}


@dataclass(frozen=True, kw_only=True)
class Accomplice(_Remembers):
    """A row map that only remembers, for a stage that is released to read."""


@broken("scorer", by="reads-released-only", says="depends on private rows", beside=(Accomplice,))
@dataclass(frozen=True, kw_only=True)
class ScoresFromRawGradients:
    """Importance of gradients before the noise, as in the paper's Algorithm 1."""

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"total_D": torch.arange(context.space.size, dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"total_D": state["total_D"] + LAST[0].double().abs()}

    def score(self, state: State) -> Tensor:
        return state["total_D"]


@broken("scheduler", by="reads-released-only", says="the support .*private", beside=(Accomplice,))
@dataclass(frozen=True, kw_only=True)
class SupportFromRawGradients:
    """Freezes all but the first coordinate when the last batch had a large mean."""

    monotone: ClassVar[bool] = False
    live: ClassVar[bool] = True

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"index_D": torch.arange(context.space.size)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def support(self, state: State, clock: object) -> Tensor:
        return (state["index_D"] == 0) | bool(LAST[0] < 1)


@broken("post", by="reads-released-only", says="released gradient .*private", beside=(Accomplice,))
@dataclass(frozen=True, kw_only=True)
class DenoisesWithTheTruth(_Same):
    """Shrinks the released vector towards the mean before the noise."""

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        return released.derive((released.value + LAST[0].double()) / 2, released.variance / 4)


@broken("row", by="row-fits-its-space", says="length that output_space says")
@dataclass(frozen=True, kw_only=True)
class LiesAboutItsSpace:
    """Says that it halves the space, and does not."""

    def output_space(self, space: Space) -> Space:
        return Space.flat("half", (space.size + 1) // 2 + 1)

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return torch.cat([g_D, g_D])


@broken("row", by="row-is-local", says="changes when another record changes")
@dataclass(frozen=True, kw_only=True)
class CentresTheBatch(_Same):
    """Subtracts the batch's mean, reached through vmap's wrapper: BatchNorm for gradients."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D - escaped(g_D).mean()


@broken("row", by="row-is-local", says="raises RuntimeError")
@dataclass(frozen=True, kw_only=True)
class BranchesOnValues(_Same):
    """Asks a private row for a Python number, which no batch can answer."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D if float(g_D.sum()) > 0 else -g_D


@broken("row", by="row-is-finite", says="a finite row is mapped to one that is not")
@dataclass(frozen=True, kw_only=True)
class DividesByTheNorm(_Same):
    """Normalises without a guard: 0/0 for a row of zeros."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D / g_D.norm()


@broken("row", by="affine-is-row", says="one weight a parameter is declared, and there are more")
@dataclass(frozen=True, kw_only=True)
class WrongWeights(_Same):
    """Declares one weight a parameter, and has one a coordinate."""

    weighs_by_parameter: ClassVar[bool] = True

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return state["weight_D"].to(g_D.dtype) * g_D

    def affine(self, state: State) -> Affine:
        return Affine(state["weight_D"])

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"weight_D": 1 + torch.arange(context.space.size).double()}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state


@broken("row", by="affine-is-row", says="the declared map is not the row")
@dataclass(frozen=True, kw_only=True)
class WrongAffine(_Same):
    """Declares the shift with the other sign."""

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return 2 * g_D - 1

    def affine(self, state: State) -> Affine:
        return Affine(2 * state["ones_D"], -state["ones_D"])

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"ones_D": torch.ones(context.space.size)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state
