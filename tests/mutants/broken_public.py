"""Broken scorers, schedulers, points and post maps, and stages that are more than their options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from dpigu.dpcore import Clock, PhaseContext, Reads, Release, Released, Space, State
from torch import Tensor

from tests.mutants.broken_rows import escaped
from tests.mutants.table import broken

SUPPORTS: dict[int, Tensor] = {}


class _Sum:
    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"total_D": torch.zeros(context.space.size, dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"total_D": state["total_D"] + release.gradient.value}

    def score(self, state: State) -> Tensor:
        return state["total_D"].abs()


@broken(None, by="frozen-options", says="not a frozen dataclass")
@dataclass(kw_only=True)
class NotFrozen(_Sum):
    """Anything can be assigned to it."""


@broken("scorer", by="frozen-options", says="leaves out")
@dataclass(frozen=True, kw_only=True)
class HiddenOption(_Sum):
    """An option that equality does not see."""

    decay: float = field(default=0.5, compare=False)


@broken("scorer", by="frozen-options", says="more than its options")
@dataclass(frozen=True, kw_only=True)
class HidesAnAttribute(_Sum):
    """Goes round `frozen` to keep something of its own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", [])


@broken("scorer", by="options-round-trip", says="not plain data")
@dataclass(frozen=True, kw_only=True)
class FunctionAsOption(_Sum):
    """An option that no configuration file can hold."""

    shape: Any = abs


@broken("scorer", by="options-round-trip", says="cannot be read back|are others")
@dataclass(frozen=True, kw_only=True)
class DistortsItsOption(_Sum):
    """Stores half of what it was given, and halves it again when it is read back."""

    decay: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", self.decay / 2)


@broken(None, by="registered", says="not registered")
@dataclass(frozen=True, kw_only=True)
class NobodyKnowsIt(_Sum):
    """No plan can name it."""


@broken("scorer", by="says-what-it-reads", says="no line `Privacy:`")
@dataclass(frozen=True, kw_only=True)
class SaysNothing(_Sum):
    """A scorer that claims nothing."""


@broken("scorer", by="repeatable", says="draws from a global random generator")
@dataclass(frozen=True, kw_only=True)
class BreaksTiesAtRandom(_Sum):
    """Adds torch's own random numbers to the scores."""

    def score(self, state: State) -> Tensor:
        return state["total_D"].abs() + torch.rand(len(state["total_D"]))


@broken("scheduler", by="repeatable", says="support .*gives something else")
@dataclass(frozen=True, kw_only=True)
class CachesItsSupport:
    """Gives the support that it computed last, for whatever state."""

    monotone: ClassVar[bool] = True
    live: ClassVar[bool] = False

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"order_D": context.weights_D.double()}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def support(self, state: State, clock: Clock) -> Tensor:
        order_D = state["order_D"]
        before = SUPPORTS.get(len(order_D), order_D >= order_D.median())
        SUPPORTS[len(order_D)] = order_D >= order_D.median()
        return before


@broken("scorer", by="leaves-inputs-alone", says="in place")
@dataclass(frozen=True, kw_only=True)
class AddsInPlace(_Sum):
    """state += ĝ, under the eyes of whoever holds the old state."""

    def score(self, state: State) -> Tensor:
        return state["total_D"].abs_()


@broken("row", by="leaves-inputs-alone", says="row assigns to its argument in place")
@dataclass(frozen=True, kw_only=True)
class WritesBehindTheVersion(_Sum):
    """Adds a private row to its state by a road that torch does not count."""

    def output_space(self, space: Space) -> Space:
        return space

    def row(self, state: State, g_D: Tensor) -> Tensor:
        state["total_D"].data += escaped(g_D).sum()
        return g_D


@broken("row", by="leaves-inputs-alone", says="row assigns to its argument in place")
@dataclass(frozen=True, kw_only=True)
class ScalesInPlace:
    """Overwrites the gradient that it was given."""

    def output_space(self, space: Space) -> Space:
        return space

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D.mul_(2)


@broken("scorer", by="state-is-plain", says="changes its layout")
@dataclass(frozen=True, kw_only=True)
class ChangesDtype(_Sum):
    """Starts in double precision and continues in single."""

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"total_D": (state["total_D"] + release.gradient.value).float()}


@broken("scorer", by="state-is-plain", says="not a plain tensor")
@dataclass(frozen=True, kw_only=True)
class StateWithGradient(_Sum):
    """A state that drags an autograd graph along."""

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"total_D": torch.zeros(context.space.size, requires_grad=True)}


@broken("scorer", by="state-round-trips", says="continues differently")
@dataclass(frozen=True, kw_only=True)
class CountsOnTheTensor(_Sum):
    """Keeps its step count as an attribute of a tensor, where no checkpoint looks."""

    def update(self, state: State, release: Release, reads: Reads) -> State:
        steps = getattr(state["total_D"], "steps", 0)
        total_D = state["total_D"] + 0.5**steps * release.gradient.value
        total_D.steps = steps + 1  # type: ignore[attr-defined]  # the point of this mutant
        return {"total_D": total_D}


@broken("scorer", by="state-stays-a-number", says="is NaN")
@dataclass(frozen=True, kw_only=True)
class DividesByItself(_Sum):
    """A relative change: 0/0 for what has not moved."""

    def update(self, state: State, release: Release, reads: Reads) -> State:
        change = (release.gradient.value - state["total_D"]) / state["total_D"]
        return {"total_D": change - change}


@broken("scorer", by="score-fits", says="a score is not finite")
@dataclass(frozen=True, kw_only=True)
class NoScoreAtFirst(_Sum):
    """A mean over no steps."""

    def score(self, state: State) -> Tensor:
        return state["total_D"] / state["total_D"].norm()


@broken("scorer", by="score-fits", says="not one score for each coordinate")
@dataclass(frozen=True, kw_only=True)
class OneScoreForAll(_Sum):
    """The norm, where every coordinate asked for its own."""

    def score(self, state: State) -> Tensor:
        return state["total_D"].norm()


class _Half:
    monotone: ClassVar[bool] = True
    live: ClassVar[bool] = False

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"index_D": torch.arange(context.space.size)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def support(self, state: State, clock: Clock) -> Tensor:
        return state["index_D"] % 2 == 0


@broken("scheduler", by="support-fits", says="not one boolean for each coordinate")
@dataclass(frozen=True, kw_only=True)
class SoftMask(_Half):
    """Weights between 0 and 1 in place of a support."""

    def support(self, state: State, clock: Clock) -> Tensor:
        return 1 / (1.0 + state["index_D"])


@broken("scheduler", by="support-fits", says="the support is empty")
@dataclass(frozen=True, kw_only=True)
class EmptySupport(_Half):
    """Keeps ⌊0.4·D⌋ coordinates: none of one or two."""

    def support(self, state: State, clock: Clock) -> Tensor:
        return state["index_D"] < int(0.4 * len(state["index_D"]))


@broken("scheduler", by="monotone-as-declared", says="frozen again")
@dataclass(frozen=True, kw_only=True)
class FreezesAgain(_Half):
    """Takes turns, and says that it only grows."""

    live: ClassVar[bool] = True

    def support(self, state: State, clock: Clock) -> Tensor:
        return (state["index_D"] + clock.step) % 2 == 0


@broken("scheduler", by="live-as-declared", says="never changes")
@dataclass(frozen=True, kw_only=True)
class NeverUnfreezes(_Half):
    """A schedule that is dead code, as in the paper's released version."""

    live: ClassVar[bool] = True


@broken("scheduler", by="live-as-declared", says="its support changes")
@dataclass(frozen=True, kw_only=True)
class GrowsInSecret(_Half):
    """Grows, and says that it does not."""

    def support(self, state: State, clock: Clock) -> Tensor:
        return state["index_D"] <= clock.step


@broken("point", by="point-fits", says="not a vector like the weights")
@dataclass(frozen=True, kw_only=True)
class DropsFrozenWeights:
    """Gives the live weights alone."""

    def at(self, state: State, weights_D: Tensor, support_D: Tensor) -> Tensor:
        return weights_D[support_D][:0]


class _Keep:
    def output_space(self, space: Space) -> Space:
        return space


@broken("post", by="post-fits", says="no released vector|raises")
@dataclass(frozen=True, kw_only=True)
class ForgetsTheNoise(_Keep):
    """Gives a bare tensor."""

    def apply(self, state: State, released: Released, reads: Reads) -> Any:
        return released.value


@broken("post", by="post-fits", says="value is not a finite vector")
@dataclass(frozen=True, kw_only=True)
class LogOfTheReleased(_Keep):
    """log |ĝ|, and -inf where it is 0."""

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        return released.derive(released.value.abs().log(), released.variance)


@broken("post", by="variance-is-declared", says="variance is not that of the noise")
@dataclass(frozen=True, kw_only=True)
class WrongVariance(_Keep):
    """Scales the variance like the value."""

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        return released.derive(3 * released.value, 3 * released.variance)


@broken("post", by="variance-is-declared", says="variance is not that of the noise")
@dataclass(frozen=True, kw_only=True)
class ClaimsToDenoise(_Keep):
    """A soft threshold that says that no noise is left."""

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        size_D = (released.value.abs() - released.variance.sqrt() / 10).clamp(min=0)
        return released.derive(released.value.sign() * size_D, torch.zeros_like(size_D))


@broken("post", by="restores-what-it-names", says="not the gradient")
@dataclass(frozen=True, kw_only=True)
class RestoresWithTheOtherRoot(_Keep):
    """√(β + μ) against √β + μ: lines 9 and 13 of the paper's Algorithm 2."""

    of: str = "ema-standardizer"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.of,)

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        stage, moments = reads[self.of]
        scale_D = (moments["beta_D"] + stage.mu).sqrt()
        value_D = released.value * scale_D + moments["alpha_D"]
        return released.derive(value_D, released.variance * scale_D**2)
