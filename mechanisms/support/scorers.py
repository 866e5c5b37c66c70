"""Importance of every coordinate, learnt from released gradients or fixed by public values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import Clock, GrammarError, PhaseContext, Reads, Release, State, register
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.public_random import public_generator
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("scorer", "mean-abs")
@dataclass(frozen=True, kw_only=True)
class MeanAbsolute:
    """The mean size of the released gradient.

    s_j = (1/T) Σ_t |ĝ_{t,j}|

    State: `total_D`, the sum, and `steps`, T. Scores have the gradient's unit. At the usual
    signal-to-noise ratio |noise| dominates every term; `coherent` averages it out.

    Source: arXiv 2507.06525, Algorithm 1, with ĝ released in place of clipped.
    Privacy: no bound needed; reads released gradients only (post-processing); checked by
    tests/mechanisms/support/test_scorers.py.
    """

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {
            "total_D": torch.zeros_like(context.weights_D, dtype=torch.float64),
            "steps": context.weights_D.new_zeros((), dtype=torch.float64),
        }

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {
            "total_D": state["total_D"] + release.gradient.value.abs(),
            "steps": state["steps"] + 1,
        }

    def score(self, state: State) -> Tensor:
        return state["total_D"] / state["steps"].clamp(min=1)


@register("scorer", "coherent")
@dataclass(frozen=True, kw_only=True)
class Coherent:
    """The size of the released gradients' sum: steps that agree count, noise averages out.

    s_j = |Σ_t ĝ_{t,j}|

    State: `total_D`, the signed sum. After T steps the signal has grown by T, the noise by √T.

    Source: the ranking that a progress ratio ρ²/(π·k/D) asks for: ρ is the share of the mean
    gradient's energy, which the sum estimates.
    Privacy: no bound needed; reads released gradients only (post-processing); checked by
    tests/mechanisms/support/test_scorers.py.
    """

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"total_D": torch.zeros_like(context.weights_D, dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"total_D": state["total_D"] + release.gradient.value}

    def score(self, state: State) -> Tensor:
        return state["total_D"].abs()


@register("scorer", "signal-energy")
@dataclass(frozen=True, kw_only=True)
class SignalEnergy:
    """The mean square of the released gradient, less the noise that is known to be in it.

    s_j = (1/T) Σ_t (ĝ_{t,j}² − v_{t,j})

    Scores may be negative. `coherent` ranks by the mean gradient, this by its size at each step,
    whether or not steps agree; its standard error is √2·v/√T where there is noise alone.

    State: `total_D`, the sum, and `steps`, T, in the gradient's unit squared.

    Source: after Zhang and Xie 2026, TP-TopK (arXiv 2606.04375), the warm-up's score.
    Privacy: no bound needed; reads released gradients and their known noise only
    (post-processing); checked by tests/mechanisms/support/test_scorers.py.
    """

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {
            "total_D": torch.zeros_like(context.weights_D, dtype=torch.float64),
            "steps": context.weights_D.new_zeros((), dtype=torch.float64),
        }

    def update(self, state: State, release: Release, reads: Reads) -> State:
        gradient = release.gradient
        return {
            "total_D": state["total_D"] + gradient.value**2 - gradient.variance,
            "steps": state["steps"] + 1,
        }

    def score(self, state: State) -> Tensor:
        return state["total_D"] / state["steps"].clamp(min=1)


@register("scorer", "random")
@dataclass(frozen=True, kw_only=True)
class Random:
    """A fixed random order of the coordinates: the control that importance must beat.

    s_j ~ U(0, 1), independent, from the public seed

    State: `score_D`, which no step changes.

    Privacy: reads the public seed only; checked by tests/mechanisms/support/test_scorers.py.
    """

    def init(self, context: PhaseContext, reads: Reads) -> State:
        generator = public_generator("random", context.seed)
        score_D = torch.rand(context.space.size, generator=generator, dtype=torch.float64)
        return {"score_D": score_D.to(context.weights_D.device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def score(self, state: State) -> Tensor:
        return state["score_D"]


@register("scorer", "weight-magnitude")
@dataclass(frozen=True, kw_only=True)
class WeightMagnitude:
    """The size of the weights at the start of the phase.

    s_j = |θ_j|

    State: `score_D`, which no step changes.

    Privacy: reads weights that are public (initial) or released (trained before this phase);
    checked by tests/mechanisms/support/test_scorers.py.
    """

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"score_D": context.weights_D.detach().to(torch.float64).abs()}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def score(self, state: State) -> Tensor:
        return state["score_D"]


@register("scorer", "public-energy")
@dataclass(frozen=True, kw_only=True)
class PublicEnergy:
    """How large public records' gradients are on every coordinate when the phase starts.

    s_j = (1/M) Σ_i g_{i,j}², over M public records at the phase's first weights

    A mask of it is there from the first step, and costs none. Public means that no privacy is at
    stake: another data set, given for the purpose.

    Args:
        public_records: M, drawn from the public data with replacement; of several stages that ask,
            the largest counts.

    State: `score_D`, which no step changes.

    Errors: `GrammarError` if the run has no public records.

    Source: the energy that a support keeps is what a record's clipping norm and its view of the
    noise shrink by (docs/results.md, sparse rows).
    Privacy: no bound needed; reads public gradients only; checked by
    tests/mechanisms/support/test_scorers.py.
    """

    public_records: int = 128

    def __post_init__(self) -> None:
        require(self.public_records >= 1, self, "public_records", "at least 1")

    def public_records_at(self, clock: Clock) -> int:
        """None at any step: all are read before the first."""
        return 0

    def init(self, context: PhaseContext, reads: Reads) -> State:
        if context.public_MD is None:
            raise GrammarError(
                "there are no public gradients to score by",
                where=name_of(self),
                remedy="Give the run public data, or take a scorer that learns, such as coherent.",
            )
        norm_D = torch.linalg.vector_norm(context.public_MD, dim=0, dtype=torch.float64)
        return {"score_D": norm_D.square() / len(context.public_MD)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def score(self, state: State) -> Tensor:
        return state["score_D"]
