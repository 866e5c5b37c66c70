"""Training accuracy as a charged release: how many records a model has right, noised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from dpigu.dpcore import (
    GrammarError,
    Phase,
    PhaseContext,
    Pipeline,
    Plan,
    PoissonSampler,
    Reads,
    Record,
    Release,
    Space,
    State,
    register,
)
from dpigu.mechanisms.clippers.flat import Flat
from dpigu.mechanisms.release.noisers import Gaussian
from torch import Tensor

PHASE = "training-accuracy"


@register("statistic", "correctness")
@dataclass(frozen=True, kw_only=True)
class Correctness:
    """Whether the model has a record right: its largest output is the target.

    z = (1, 0) if it is right, (0, 1) if it is wrong: norm 1, so a bound of 1 clips nothing

    Both counts are released, so their ratio does not feel how many records were sampled.
    The model is looked at as it predicts: in evaluation mode, with the average of its weights.

    State: `sum_2`, the sum of the releases; `variance_2`, of their noise; `steps`.

    Errors: `GrammarError` for a model without one output for each class.
    Privacy: the row of one record has norm 1, whatever the model; clipped and noised by the
    phase's pipeline like any other row; checked by tests/mechanisms/statistics/test_accuracy.py.
    """

    evaluates: ClassVar[bool] = True

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        return Space.flat("right and wrong", 2)

    def row_of(self, state: State, record: Record) -> Tensor:
        outputs = None if record.outputs is None else record.outputs()
        if outputs is None or outputs.ndim != 1 or record.y.ndim != 0 or len(outputs) < 2:
            raise GrammarError(
                "accuracy is of models with one output for each class",
                where="correctness",
                got="no outputs" if outputs is None else f"outputs of shape {(*outputs.shape,)}",
            )
        right = (outputs.argmax() == record.y).to(torch.float64)
        return torch.stack([right, 1 - right])

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {}

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        return {}

    def init(self, context: PhaseContext, reads: Reads) -> State:
        zeros_2 = torch.zeros(2, dtype=torch.float64, device=context.weights_D.device)
        return {"sum_2": zeros_2, "variance_2": zeros_2, "steps": zeros_2.new_zeros(())}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {
            "sum_2": state["sum_2"] + release.gradient.value,
            "variance_2": state["variance_2"] + release.gradient.variance,
            "steps": state["steps"] + 1,
        }

    def reported(self, state: State, sampler: PoissonSampler) -> dict[str, float]:
        """The share of the training split that is right, with an interval of 95% confidence.

        a = right / (right + wrong); its variance is that of a sample of n = steps · q · N records
        out of N, (1 − q)(a(1 − a) + 1/n)/n, and of the noise, ((1 − a)² v_right + a² v_wrong)/t²
        with t = right + wrong. All of it is computed from releases.
        """
        right, wrong = state["sum_2"].tolist()
        noise_right, noise_wrong = state["variance_2"].tolist()
        total = right + wrong
        if total <= 0:
            return {"estimate": 0.5, "low": 0.0, "high": 1.0, "confidence": 0.95}
        share = min(max(right / total, 0.0), 1.0)
        sampled = max(float(state["steps"]) * sampler.expected_batch, 1.0)
        variance = (1 - sampler.rate) * (share * (1 - share) + 1 / sampled) / sampled
        variance += ((1 - share) ** 2 * noise_right + share**2 * noise_wrong) / total**2
        half = 1.96 * math.sqrt(variance)
        low, high = max(0.0, share - half), min(1.0, share + half)
        return {"estimate": share, "low": low, "high": high, "confidence": 0.95}


def training_accuracy(plan: Plan, steps: int = 10, noise: float = 4.0) -> Plan:
    """The plan with a last phase that releases how many training records the model has right.

    Every step looks at a Poisson sample at the plan's rate, and is charged like any other.

    Args:
        plan: trains the model; its noise multipliers are ratios or σ, and so is the phase's.
        steps: how many samples are looked at; the releases are added up.
        noise: the noise multiplier of a step, as a multiple of the plan's last phase's.

    Errors: `GrammarError` if the plan has such a phase already, or the noise is not above 0.
    """
    if not 0 < noise < math.inf:
        raise GrammarError(
            "the noise of the training accuracy must be above 0",
            where="training_accuracy(noise)",
            got=noise,
        )
    sigma = noise * plan.phases[-1].pipeline.noiser.noise_multiplier
    pipeline = Pipeline(
        clipper=Flat(bound=1.0), noiser=Gaussian(noise_multiplier=sigma), statistic=Correctness()
    )
    return replace(plan, phases=(*plan.phases, Phase(PHASE, pipeline, steps)))
