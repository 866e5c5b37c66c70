"""Broken clippers, queries and noisers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from dp_accounting import DpEvent, GaussianDpEvent
from dpigu.dpcore import PhaseContext, Reads, Release, State
from torch import Tensor

from tests.mutants.broken_rows import escaped
from tests.mutants.table import broken

NORMS: list[Tensor] = [torch.zeros(1)]
POOL: dict[int, Tensor] = {}
LAST: dict[int, Tensor] = {}


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


@dataclass(frozen=True, kw_only=True)
class _Normal:
    noise_multiplier: float = 1.0

    def event(self, noise_multiplier: float) -> DpEvent:
        return GaussianDpEvent(noise_multiplier)

    def sample(self, normal_K: Tensor) -> Tensor:
        return normal_K


def _noiser(cls: type) -> Any:
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


@broken("noiser", by="event-is-the-noise", says="the event is another")
@_noiser
class ClaimsTwiceTheNoise(_Normal):
    """An event of twice the multiplier."""

    def event(self, noise_multiplier: float) -> DpEvent:
        return GaussianDpEvent(2 * noise_multiplier)


@broken("noiser", by="event-is-the-noise", says="not that of the multiplier that is asked for")
@_noiser
class ForgetsTheQueries(_Normal):
    """The gradient's own multiplier, whatever the queries have taken of it."""

    def event(self, noise_multiplier: float) -> DpEvent:
        return GaussianDpEvent(self.noise_multiplier)


@broken("noiser", by="noise-has-its-distribution", says="has not variance 1")
@_noiser
class TooLittleNoise(_Normal):
    """15% too little."""

    def sample(self, normal_K: Tensor) -> Tensor:
        return 0.85 * normal_K


@broken("noiser", by="noise-has-its-distribution", says="has not variance 1")
@_noiser
class NoisePerRecordAveraged(_Normal):
    """Noise for each of 100 records, and then their mean: √100 too little."""

    def sample(self, normal_K: Tensor) -> Tensor:
        return normal_K / 100**0.5


@broken("noiser", by="noise-has-its-distribution", says="is not normal")
@_noiser
class BoundedNoise(_Normal):
    """Variance 1 and no tails: what lies outside is proof."""

    def sample(self, normal_K: Tensor) -> Tensor:
        return 12**0.5 * (torch.special.ndtr(normal_K) - 0.5)


@broken("noiser", by="noise-is-independent", says="share their noise")
@_noiser
class OneDrawForAll(_Normal):
    """One draw on every coordinate: any difference of two is released without noise."""

    def sample(self, normal_K: Tensor) -> Tensor:
        return normal_K[:1].expand(len(normal_K))


@broken("noiser", by="noise-is-independent", says="share their noise")
@_noiser
class NoisePerMicrobatch(_Normal):
    """A short pool of noise laid end to end."""

    def sample(self, normal_K: Tensor) -> Tensor:
        return normal_K[:64].repeat(-(-len(normal_K) // 64))[: len(normal_K)]


@broken("noiser", by="noise-is-independent", says="comes again in the next")
@_noiser
class HalfOfTheLastNoise(_Normal):
    """Each step's noise is half of the last one's: of variance 1, and independent within a step."""

    def sample(self, normal_K: Tensor) -> Tensor:
        last_K = LAST.get(len(normal_K), normal_K)
        LAST[len(normal_K)] = normal_K
        return (normal_K + last_K) / 2**0.5


@broken("noiser", by="noise-is-independent", says="share their noise")
@_noiser
class ReplayedNoise(_Normal):
    """The first noise of each length, again and again."""

    def sample(self, normal_K: Tensor) -> Tensor:
        return POOL.setdefault(len(normal_K), normal_K)


@broken("noiser", by="repeatable", says="sample gives something else")
@_noiser
class NoiseOfItsOwn(_Normal):
    """Noise from torch's global generator, which a seed replays."""

    def sample(self, normal_K: Tensor) -> Tensor:
        return POOL.setdefault(-1, torch.zeros(1)).add_(1) + normal_K
