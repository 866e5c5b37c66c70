"""Broken clippers, queries, noisers and factorisations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, State
from torch import Tensor

from tests.mutants.broken_rows import escaped
from tests.mutants.table import broken

NORMS: list[Tensor] = [torch.zeros(1)]
POOL: dict[int, Tensor] = {}


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


class _Flat:
    groups: ClassVar[str] = "all"

    def joint_bound(self, state: State) -> Tensor:
        return number(1.0)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (1 / norms_G).clamp(max=1)


@broken("clipper", by="reads-released-only", says="depends on private rows")
@dataclass(frozen=True, kw_only=True)
class QuantileOfRawNorms(_Flat):
    """Follows the norms that it sees: quantile clipping without its noise."""

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"bound": number(1.0)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"bound": state["bound"] * torch.exp(0.1 * NORMS[0].sign() + 0.1 * NORMS[0].tanh())}

    def joint_bound(self, state: State) -> Tensor:
        return state["bound"]

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        NORMS[0] = escaped(norms_G).sum()
        return (state["bound"] / norms_G).clamp(max=1)


@broken("clipper", by="bound-is-declared", says="the bound is not above 0")
@dataclass(frozen=True, kw_only=True)
class BoundThatSinks(_Flat):
    """A bound that falls to 0 with the steps."""

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"bound": number(1.0)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"bound": state["bound"] - 0.5}

    def joint_bound(self, state: State) -> Tensor:
        return state["bound"]

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (state["bound"] / norms_G).clamp(max=1)


@broken("clipper", by="bound-is-declared", says="not one float64 number")
@dataclass(frozen=True, kw_only=True)
class BoundInSinglePrecision(_Flat):
    """A bound that float32 has rounded."""

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(1.0)


@broken("clipper", by="factors-fit", says="negative or not finite")
@dataclass(frozen=True, kw_only=True)
class InfiniteFactor(_Flat):
    """C/‖z‖ without the cap: inf for a row of zeros."""

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return 1 / norms_G


@broken("clipper", by="factors-fit", says="not one factor for every norm")
@dataclass(frozen=True, kw_only=True)
class OneFactorForAllGroups(_Flat):
    """Declares a group for each layer, and gives one factor."""

    groups: ClassVar[str] = "parameter"

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (1 / norms_G.sum()).clamp(max=1)[None]


@broken("clipper", by="clipped-norm-keeps-the-bound", says="longer than the declared bound")
@dataclass(frozen=True, kw_only=True)
class OneLayersBound(_Flat):
    """Clips every layer to C and declares C for all of them: noise for one layer."""

    groups: ClassVar[str] = "layer"


@broken("clipper", by="clipped-norm-keeps-the-bound", says="longer than the declared bound")
@dataclass(frozen=True, kw_only=True)
class MissingClip(_Flat):
    """Declares a bound and does not clip."""

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return torch.ones_like(norms_G)


@broken("clipper", by="bound-is-reached", says="less than half")
@dataclass(frozen=True, kw_only=True)
class BoundTooLarge(_Flat):
    """Clips to 1 and declares 10: ten times the noise that it needs."""

    def joint_bound(self, state: State) -> Tensor:
        return number(10.0)


@broken("clipper", by="factor-is-local", says="changes when another record does")
@dataclass(frozen=True, kw_only=True)
class ClipsTheMean(_Flat):
    """One factor for the batch, from its mean norm, in place of each record's own."""

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (1 / escaped(norms_G).mean().clamp(min=1)) * torch.ones_like(norms_G)


class _Count:
    size: ClassVar[int] = 1
    bound: ClassVar[float] = 0.5
    noise_ratio: ClassVar[float] = 10.0

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        return torch.where(norms_G.norm() > 1, 0.5, -0.5)[None]


@broken("query", by="query-keeps-its-bound", says="longer than the declared bound")
@dataclass(frozen=True, kw_only=True)
class UncentredCount(_Count):
    """Counts 0 or 1 and declares the bound of a centred count."""

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        return torch.where(norms_G.norm() > 1, 1.0, 0.0)[None]


@broken("query", by="query-keeps-its-bound", says="not a finite vector of length 1")
@dataclass(frozen=True, kw_only=True)
class LogarithmOfTheNorm(_Count):
    """A norm of 0 has no logarithm."""

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        return 0.5 * norms_G.norm().log()[None]


@broken("query", by="factor-is-local", says="changes when another record does")
@dataclass(frozen=True, kw_only=True)
class ComparesWithTheOthers(_Count):
    """Asks whether a record is longer than the batch's mean."""

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        return torch.where(norms_G.norm() > escaped(norms_G).mean(), 0.5, -0.5)[None]


@broken("query", by="query-bound-is-reached", says="half of the declared bound")
@dataclass(frozen=True, kw_only=True)
class QueryBoundTooLarge(_Count):
    """Pays for a sensitivity of 4 and uses an eighth of it."""

    bound: ClassVar[float] = 4.0


def _noiser(cls: type) -> Any:
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


@broken("noiser", by="names-a-law", says="the kernel knows no such law")
@_noiser
class LaplaceOfItsOwn:
    """A law that nobody draws, with no event."""

    law: ClassVar[str] = "laplace"
    noise_multiplier: float = 1.0


@broken("noiser", by="names-a-law", says="names another law")
@_noiser
class FloatsForLargeNoise:
    """The exact law for the noise that is checked, and the plain draw for what is large."""

    noise_multiplier: float = 1.0

    @property
    def law(self) -> str:
        return "gaussian" if self.noise_multiplier <= 1 else "gaussian-float"


@broken("noiser", by="repeatable", says="law .*gives something else")
@_noiser
class AnotherLawEachTime:
    """The exact law for whoever asks first, and the plain draw for the next."""

    noise_multiplier: float = 1.0

    @property
    def law(self) -> str:
        return ("gaussian", "gaussian-float")[int(POOL.setdefault(-1, torch.zeros(1)).add_(1)) % 2]


@broken("noiser", by="multiplier-is-its-option", says="changes the multiplier")
@_noiser
class MultiplierWithACap:
    """Less noise than was asked for, and than the trainer scaled to the target."""

    law: ClassVar[str] = "gaussian"
    noise_multiplier: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_multiplier", min(self.noise_multiplier, 2.0))


@broken("noiser", by="multiplier-is-its-option", says="changes the multiplier")
@_noiser
class LessNoiseForTheKernel:
    """The multiplier to the accountant, who asks first, and a tenth of it to the kernel."""

    law: ClassVar[str] = "gaussian"
    noise_multiplier: float = 1.0

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name != "noise_multiplier":
            return value
        return value / 10 ** (int(POOL.setdefault(-2, torch.zeros(1)).add_(1)) % 2)


@broken("factorisation", by="is-a-column-of-numbers", says="no column of an encoder")
@dataclass(frozen=True, kw_only=True)
class ColumnTooLong:
    """Encodes with three numbers, and lets a record take part in every second step."""

    bands: int = 2

    def coefficients(self, steps: int) -> tuple[float, ...]:
        return (1.0, 0.5, 0.25)
