"""White-box canaries: crafted gradients among the rows, told by the released sums.

Each canary is one more record whose row stands alone: the canaries' directions are orthogonal,
and whether one is in is its coin's choice alone. Heads joins a step's batch at the run's own
rate, by the system's entropy, as every record does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from dpigu.audits.canaries.observations import FILE as OBSERVATIONS
from dpigu.audits.canaries.planting import CanaryPlan
from dpigu.audits.evidence import write_private
from dpigu.dpcore import DataError, Phase, Plan, PoissonSampler, Release, Stateful, StepContext
from dpigu.dpcore.randomness import coins
from dpigu.trainers import recipe_from_file
from dpigu.trainers.runs import RunFolder
from torch import Tensor

FAR = 1e4
"""How much longer than the bound C every second canary's row is: a missing clip lets it through."""


@dataclass
class _Step:
    """The directions of one step: coordinate k belongs to canary owner_K[k], with unit_K[k]."""

    owner_K: Tensor
    unit_K: Tensor
    there_m: Tensor


class GradientCanaries:
    """Adds the canaries' rows after the row maps and before the clipper; reads what is released.

    Canary j's direction at a step is a vector of random signs on the noised coordinates that it
    owns, of norm 1: who owns which is fixed by the plan's key, so that the directions are
    orthogonal. The signs are fresh at every step: what the data have in that direction then
    averages out, however steady they are. Its row is that direction at length C for even j, and
    ten thousand times as long for odd j (for all, where C adapts and is not known before the
    step): behind the clipper both are the same, and without one they are not. It observes
    o = ⟨direction, noised sum⟩/C, where noised sum = noised mean × expected batch.

    Args:
        plan: of kind gradient.
        training: the plan of the run.

    Raises: DataError for another kind, a run without noise or with correlated noise, or fewer
        coordinates than canaries.
    Source: Steinke, Nasr and Jagielski 2023, section 6 (Dirac canaries), orthogonal by blocks.
    """

    def __init__(self, plan: CanaryPlan, training: Plan) -> None:
        if not plan.white_box:
            raise DataError("these canaries are records", where="kind", got=plan.kind)
        check_steps_apart(training)
        self._plan = plan
        self._heads = np.flatnonzero(np.array(plan.coins))
        self._folder: RunFolder | None = None
        self._sampler: PoissonSampler | None = None
        self._phases: dict[str, Phase] = {}
        self._bounds: dict[str, float] = {}
        self._owners: dict[int, Tensor] = {}
        self._now: _Step | None = None
        self._joined: list[int] = []

    def begin(self, folder: RunFolder) -> None:
        """Take noise, rate and bounds from a run's configuration, before its first step."""
        recipe = recipe_from_file(folder.public / "config.toml")
        assert recipe.records is not None
        self._sampler = recipe.settings.sampler(recipe.records)
        self._phases = {phase.name: phase for phase in recipe.plan.phases}
        for name, phase in self._phases.items():
            clipper = phase.pipeline.clipper
            if not isinstance(clipper, Stateful):
                self._bounds[name] = float(clipper.joint_bound({}))
        self._folder = folder
        if not (folder.private / OBSERVATIONS).exists():
            write_private(folder.private / OBSERVATIONS, b"")

    def extra_rows(self, phase: str, context: StepContext) -> Tensor | None:
        """This step's sample of the canaries that are in, a row each."""
        assert self._sampler is not None  # begin comes first
        self._now = self._directions(context)
        joins = self._heads[self._sampler.draw(len(self._heads))]
        joins = joins[self._now.there_m.cpu().numpy()[joins]]
        self._joined = joins.tolist()
        if len(joins) == 0:
            return None
        bound = self._bounds.get(phase)
        device = self._now.unit_K.device
        at_B = torch.as_tensor(joins, device=device)
        far_B = torch.where(at_B % 2 == 0, 1.0, FAR)
        length_B = far_B * bound if bound is not None else torch.full_like(far_B, FAR)
        mine_BK = self._now.owner_K == at_B[:, None]
        unit_K = self._now.unit_K.to(torch.float32)
        return torch.where(mine_BK, unit_K, 0.0).mul_(length_B[:, None])

    def see(self, phase: str, release: Release) -> None:
        """Add what the step says of every canary to the run's private observations."""
        step, sampler, folder = self._now, self._sampler, self._folder
        assert step is not None and sampler is not None and folder is not None
        sigma = self._phases[phase].pipeline.noiser.noise_multiplier
        bound = self._bounds.get(phase)
        if bound is None:  # it adapts, and this step's is in the noise
            std_K = release.noised.variance.double().sqrt()
            bound = float(std_K.max()) * sampler.expected_batch / sigma
        total_K = release.noised.value.double() * sampler.expected_batch
        m = len(self._plan.coins)
        o_m = torch.zeros(m, dtype=torch.float64, device=total_K.device)
        o_m.index_add_(0, step.owner_K, total_K * step.unit_K)
        seen = _short(o_m / bound, step.there_m)
        line = {"phase": phase, "step": release.clock.step, "sigma": sigma, "rate": sampler.rate}
        line |= {"joined": self._joined, "seen": seen}
        folder.note_privately(OBSERVATIONS, line)

    def _directions(self, context: StepContext) -> _Step:
        noised_K = context.noise_support_K
        size = len(noised_K)
        owner_K = self._owned(size, noised_K.device)
        sign_K = torch.from_numpy(coins(0.5, size) * 2.0 - 1.0)
        sign_K = sign_K.to(noised_K.device)
        m = len(self._plan.coins)
        count_m = torch.zeros(m, dtype=torch.float64, device=noised_K.device)
        count_m.index_add_(0, owner_K, noised_K.double())
        unit_K = torch.where(noised_K, sign_K / count_m.clamp(min=1).sqrt()[owner_K], 0.0)
        return _Step(owner_K, unit_K, count_m > 0)

    def _owned(self, size: int, device: torch.device) -> Tensor:
        """The owner of every coordinate, from the plan's key."""
        if size not in self._owners:
            m = len(self._plan.coins)
            if m > size:
                raise DataError(
                    "fewer coordinates than canaries: their directions cannot be orthogonal",
                    where="canaries",
                    got=m,
                    expected=f"at most {size}",
                )
            key = hashlib.sha256(f"{self._plan.key} directions".encode()).digest()[:16]
            draw = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
            self._owners[size] = torch.from_numpy(draw.permutation(size) % m).to(device)
        return self._owners[size]


def check_steps_apart(plan: Plan) -> None:
    """Refuse a plan whose steps are not each a clipped sum with noise of its own.

    Raises: DataError for a plan without noise, or with noise that is correlated across steps.
    """
    if not plan.private:
        raise DataError(
            "these canaries need a clipping bound and noise, and this run has neither",
            where="crafted gradients",
            remedy="Take canaries that are records.",
        )
    if not steps_apart(plan):
        raise DataError(
            "a crafted gradient stands in a step by itself, and the noise of steps is correlated",
            where="crafted gradients",
            got="a factorisation",
            remedy="Take canaries that are records.",
        )


def steps_apart(plan: Plan) -> bool:
    """Whether each step is a clipped sum with noise of its own."""
    return plan.private and all(phase.pipeline.factorisation is None for phase in plan.phases)


def _short(values_m: Tensor, there_m: Tensor) -> list[float | None]:
    """Seven digits are enough for a score; None for a canary that had no live coordinate."""
    pairs = zip(values_m.tolist(), there_m.tolist(), strict=True)
    return [float(f"{value:.7g}") if there else None for value, there in pairs]
