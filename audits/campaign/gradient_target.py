"""Crafted gradients as a campaign's targets: the same row at every step, told by the final weights.

What a step adds in a target's direction stays in the weights, so that releasing the last model
alone hides little of it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from dpigu.audits.campaign.target import fit
from dpigu.audits.canaries.gradients import FAR
from dpigu.dpcore import DataError, PoissonSampler, Release, StepContext
from dpigu.mechanisms.public_random import public_generator
from dpigu.trainers import Data
from dpigu.trainers.tasks import CLASSIFICATION
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientTargets:
    """K orthogonal directions in the space of the trainable parameters, and the initial model.

    Direction j is ±1/√n on the n coordinates with owner_D = j. A target that is in joins each
    batch with the run's own rate, as the row 10⁴ · direction after the row maps and before the
    clipper: a record of its own, whatever the weights. Its score is ⟨direction, θ_0 − θ_T⟩.

    Args:
        owner_D, sign_D: of every coordinate. model: where each training starts.

    Source: Cebere, Bellet and Papernot 2025 (arXiv 2405.14457), the gradient-crafting adversary
        that inserts at every step; several at once, on blocks of coordinates, are ours.
    """

    owner_D: Tensor
    sign_D: Tensor
    model: nn.Module
    count: int

    def planted(
        self, data: Data, inside_K: NDArray[np.bool_], sampler: PoissonSampler
    ) -> tuple[Data, CraftedRows]:
        """The data as they are, and what adds the rows of the targets that are in."""
        return data, CraftedRows(self.directions()[torch.from_numpy(inside_K)], sampler)

    def directions(self) -> Tensor:
        """Shape (K, D), each of norm 1."""
        mine_KD = self.owner_D == torch.arange(self.count)[:, None]
        return torch.where(mine_KD, self.sign_D, 0.0) / mine_KD.sum(1, keepdim=True).sqrt()

    def scores(self, model: nn.Module) -> Tensor:
        """⟨direction, θ_0 − θ_T⟩: a descent goes against the row."""
        moved_D = _weights(self.model) - _weights(model)
        return self.directions().double() @ moved_D

    def identity(self) -> str:
        """The directions are fixed by their number and the model's size."""
        return f"gradients {self.count} of {len(self.owner_D)}"


@dataclass(eq=False)
class CraftedRows:
    """Adds rows to each batch by the system's entropy, where they are live."""

    rows_ND: Tensor = field(repr=False)
    sampler: PoissonSampler

    def extra_rows(self, phase: str, context: StepContext) -> Tensor:
        """The rows of a step's sample, at a length that every clipper cuts.

        Raises: DataError where rows do not live in the space of the parameters.
        """
        live_K = context.noise_support_K
        if len(live_K) != self.rows_ND.shape[1]:
            raise DataError(
                "rows of this phase have other coordinates than the parameters",
                where=phase,
                got=len(live_K),
                expected=self.rows_ND.shape[1],
                remedy="Take records as targets.",
            )
        rows_BD = self.rows_ND[self.sampler.draw(len(self.rows_ND))].to(live_K.device)
        return torch.where(live_K, FAR * rows_BD, 0.0)

    def see(self, phase: str, release: Release) -> None:
        """Nothing: the final model alone is looked at."""


def gradient_targets(
    data: Data, model: nn.Module, *, count: int, worst_case: bool = True
) -> GradientTargets:
    """Directions on blocks of coordinates, drawn publicly, and where to start.

    Args:
        data: its held-out split is public; with `worst_case` it trains the initial weights, so
            that records like them have small gradients.
        model: untrained; it is not changed.
        count: K, at most half of the declared records and no more than there are coordinates.

    Raises: DataError for more targets than that, or worst-case weights where there are no classes.
    """
    start = copy.deepcopy(model)
    if worst_case:
        if data.spec.task != CLASSIFICATION:
            raise DataError("worst-case weights need a classification", where=data.spec.name)
        nothing = data.test_y[:0]
        fit(start, data, data.test_x[:0], nothing)
    size = len(_weights(start))
    most = min(data.spec.records // 2, size)
    if not 1 <= count <= most:
        raise DataError("too many crafted gradients", got=count, expected=f"1 to {most}")
    draw = public_generator("campaign directions", count, size)
    return GradientTargets(
        owner_D=torch.randperm(size, generator=draw) % count,
        sign_D=torch.randint(0, 2, (size,), generator=draw) * 2.0 - 1.0,
        model=start.eval(),
        count=count,
    )


def _weights(model: nn.Module) -> Tensor:
    """The trainable parameters, flattened in the order of a run's space, in float64."""
    parts = [p.detach().cpu().double().flatten() for p in model.parameters() if p.requires_grad]
    return torch.cat(parts)
