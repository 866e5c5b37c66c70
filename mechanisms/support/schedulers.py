"""The support at every step: the head of a ranking, unfrozen along a curve, or random draws.

Every curve runs over u = step / (steps − 1), from exactly `ratio` at the first step to exactly
`end` at the last. A phase of one step stays at `ratio`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from dpigu.dpcore import Clock, GrammarError, PhaseContext, Reads, Release, Scorer, State, register
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.public_random import public_generator
from dpigu.mechanisms.validate import require
from torch import Tensor


def kept(ratio: float, size: int) -> int:
    """How many of `size` coordinates a ratio keeps: max(1, ⌊ratio · size⌋).

    The product is read to nine decimals, so that 0.29 of 100 is 29 although the nearest double
    to 0.29 is a little less.
    """
    return max(1, math.floor(ratio * size + 1e-9))


def _progress(clock: Clock) -> float:
    """u in [0, 1]: 0 at the first step of the phase, 1 at the last."""
    return clock.step / max(clock.steps - 1, 1)


def _between(first: float, last: float, share: float) -> float:
    """(1 − share) · first + share · last: exact at both ends."""
    return (1 - share) * first + share * last


@dataclass(frozen=True, kw_only=True)
class _Ranked(ABC):
    """A support that is the head of a ranking made once, when the phase starts.

    support_t = {j : rank_j < max(1, ⌊r_t · D⌋)}, with rank_j the position of coordinate j when
    scores fall; equal scores keep the order of the coordinates.

    Args:
        ratio: r, the share of coordinates that are live at the first step, in (0, 1].
        reads: the one scorer that ranks, by slot or by name, of this or an earlier phase.

    State: `rank_D`, int64. Errors: `GrammarError` for a ratio out of range, a stage that is no
    scorer, or scores that are all equal (a scorer that has learnt nothing yet).
    """

    ratio: float = 0.6
    reads: tuple[str, ...] = ("scorer",)
    monotone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(0 < self.ratio <= 1, self, "ratio", "a share in (0, 1]")
        require(len(self.reads) == 1, self, "reads", "the name of one scorer")

    @property
    @abstractmethod
    def live(self) -> bool: ...

    @abstractmethod
    def ratio_at(self, clock: Clock) -> float:
        """r_t, the share of coordinates that are live at this step."""

    def init(self, context: PhaseContext, reads: Reads) -> State:
        (name,) = self.reads
        scorer, state = reads[name]
        where = f"{name_of(self)}.reads"
        if not isinstance(scorer, Scorer):
            raise GrammarError("this stage gives no scores", where=where, got=name_of(scorer))
        score_D = scorer.score(state)
        if len(score_D) != context.space.size:
            raise GrammarError(
                "the scores are of other coordinates than this phase releases",
                where=where,
                got=f"{len(score_D)} of {name}",
                expected=f"{context.space.size}",
                remedy="Leave out this scheduler, or the statistic that is no gradient.",
            )
        if len(score_D) > 1 and bool((score_D == score_D[0]).all()):
            raise GrammarError(
                "the scores are all equal, and rank nothing",
                where=where,
                got=name,
                remedy="Let the scorer learn in an earlier phase, and leave it out of this one.",
            )
        order_D = score_D.argsort(descending=True, stable=True)
        return {"rank_D": order_D.argsort()}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def support(self, state: State, clock: Clock) -> Tensor:
        rank_D = state["rank_D"]
        return rank_D < kept(self.ratio_at(clock), len(rank_D))


@register("scheduler", "top-k")
@final
@dataclass(frozen=True, kw_only=True)
class TopK(_Ranked):
    """A fixed support: the k = ⌊r·D⌋ coordinates of largest score.

    r_t = r

    Source: arXiv 2507.06525, Algorithm 1, lines 10 to 15.
    Privacy: reads released or public scores and the clock; the support is public, and noise
    is drawn on all of it; checked by tests/mechanisms/support/test_schedulers.py.
    """

    live: ClassVar[bool] = False

    def ratio_at(self, clock: Clock) -> float:
        return self.ratio


@dataclass(frozen=True, kw_only=True)
class _Unfreezing(_Ranked):
    """A head of the ranking that grows from `ratio` to `end`.

    Args:
        end: the share that is live at the last step, in [ratio, 1].
    """

    end: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ratio <= self.end <= 1, self, "end", f"a share in [{self.ratio:g}, 1]")

    @property
    def live(self) -> bool:
        return self.ratio < self.end


@register("scheduler", "linear-unfreeze")
@final
@dataclass(frozen=True, kw_only=True)
class LinearUnfreeze(_Unfreezing):
    """Coordinates join at a constant rate.

    r_t = (1 − u)·r + u·r_end

    Source: arXiv 2507.06525, "progressive unfreezing", which leaves the curve open.
    Privacy: as `top-k`.
    """

    def ratio_at(self, clock: Clock) -> float:
        return _between(self.ratio, self.end, _progress(clock))


@register("scheduler", "cosine-unfreeze")
@final
@dataclass(frozen=True, kw_only=True)
class CosineUnfreeze(_Unfreezing):
    """Coordinates join slowly at both ends and fastest half-way.

    r_t = (1 − s)·r + s·r_end with s = (1 − cos πu)/2

    Privacy: as `top-k`.
    """

    def ratio_at(self, clock: Clock) -> float:
        return _between(self.ratio, self.end, (1 - math.cos(math.pi * _progress(clock))) / 2)


@register("scheduler", "step-unfreeze")
@final
@dataclass(frozen=True, kw_only=True)
class StepUnfreeze(_Unfreezing):
    """Coordinates join in equal jumps between plateaus of (nearly) equal length.

    r_t = (1 − s)·r + s·r_end with s = min(⌊u·n⌋, n − 1)/(n − 1)

    Args:
        levels: n, the number of plateaus, the first at r and the last at r_end; at least 2.

    Privacy: as `top-k`.
    """

    levels: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.levels >= 2, self, "levels", "at least 2")

    def ratio_at(self, clock: Clock) -> float:
        last = self.levels - 1
        level = min(math.floor(_progress(clock) * self.levels), last)
        return _between(self.ratio, self.end, level / last)


@register("scheduler", "exponential-unfreeze")
@final
@dataclass(frozen=True, kw_only=True)
class ExponentialUnfreeze(_Unfreezing):
    """The support grows by the same factor at every step.

    r_t = r^(1−u) · r_end^u

    Privacy: as `top-k`.
    """

    def ratio_at(self, clock: Clock) -> float:
        u = _progress(clock)
        return math.pow(self.ratio, 1 - u) * math.pow(self.end, u)


@register("scheduler", "random-freeze")
@final
@dataclass(frozen=True, kw_only=True)
class RandomFreeze:
    """A fresh random support at every step, from public randomness.

    support_t is uniform among the sets of max(1, ⌊r_t·D⌋) coordinates, independent over steps,
    and fixed by (seed, t); r_t = (1 − u)·r + u·r_end

    Args:
        ratio: r, the share that is live at the first step, in (0, 1].
        end: r_end, the share at the last, in (0, 1]; below `ratio` the frozen part grows.

    State: `seed` and `size`, no dimensions, int64, on the host: public, and never changed.

    Source: Zhu and Blaschko, arXiv 2112.00845 (random freeze, with a growing frozen part); their
    code draws once an epoch, and ends with a tenth live.
    Privacy: reads the public seed and the clock only; noise is drawn on the whole support;
    checked by tests/mechanisms/support/test_schedulers.py.
    """

    ratio: float = 1.0
    end: float = 0.5
    monotone: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(0 < self.ratio <= 1, self, "ratio", "a share in (0, 1]")
        require(0 < self.end <= 1, self, "end", "a share in (0, 1]")

    @property
    def live(self) -> bool:
        return min(self.ratio, self.end) < 1

    def init(self, context: PhaseContext, reads: Reads) -> State:
        seed, size = context.seed, context.space.size
        return {"seed": torch.tensor(seed), "size": torch.tensor(size)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def support(self, state: State, clock: Clock) -> Tensor:
        size = int(state["size"])
        generator = public_generator("random-freeze", int(state["seed"]), clock.step)
        count = kept(_between(self.ratio, self.end, _progress(clock)), size)
        support_D = torch.zeros(size, dtype=torch.bool)
        support_D[torch.randperm(size, generator=generator)[:count]] = True
        return support_D
