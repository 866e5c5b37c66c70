"""A Gaussian mechanism simulated in three operations a step, where the kernel takes a hundred.

What the audit makes of runs is tested on it by the hundred; the runs of the kernel itself are
audited plan by plan.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from dpigu.audits.conformance.scenario import released
from dpigu.audits.mechanism.adversary import Situation
from dpigu.audits.mechanism.traces import RECORDS, SPACE, ReleasedStep, ShortRun, Trace
from dpigu.dpcore import Adjacency, Clock, Kernel, Release

D, STEPS = 3, 2
ROW_D = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3


class SimulatedRun(ShortRun):
    """Two steps of μ-GDP together: (present · e + σz)/B each, ‖e‖ = C = 1, σ = √2/μ; and a state,
    the sum of what was released. `share` of the noise is drawn."""

    def __init__(self, mu: float, seed: int, share: float = 1.0) -> None:
        super().__init__("two steps", (), mu, Adjacency.ADD_OR_REMOVE_ONE, SPACE, Kernel)
        object.__setattr__(self, "draw", np.random.default_rng(seed))
        object.__setattr__(self, "share", share)

    def check(self) -> None:
        """It can run."""

    def run(self, situation: Situation, present: bool) -> Trace:
        """One run; the situation changes nothing."""
        sigma = math.sqrt(STEPS) / self.mu
        everywhere_D = torch.ones(D, dtype=torch.bool)
        variance_D = torch.full((D,), (sigma / RECORDS) ** 2, dtype=torch.float64)
        total_D = torch.zeros(D, dtype=torch.float64)
        steps = []
        for step in range(STEPS):
            z_D = torch.from_numpy(self.draw.standard_normal(D))
            shown = released((present * ROW_D + self.share * sigma * z_D) / RECORDS, variance_D)
            total_D = total_D + shown.value
            release = Release(shown, shown, {}, everywhere_D, Clock(step, STEPS))
            states = {"scorer": {"total_D": total_D}}
            steps.append(
                ReleasedStep("main", release, states, 1.0, sigma, ROW_D, {}, torch.zeros(D))
            )
        return Trace(tuple(steps))
