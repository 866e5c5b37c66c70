"""The bug zoo: kernels and stages that are each wrong in one way, to be run in place of ours.

A mutant changes as little as it can, so that it fails for its own mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from dpigu.audits.mechanism.traces import RECORDS
from dpigu.dpcore import (
    Bounded,
    DenseRows,
    Kernel,
    NoiseSource,
    Phase,
    Pipeline,
    Plan,
    Release,
    Released,
    Rows,
    State,
    States,
    StepContext,
    SystemNoise,
)
from dpigu.mechanisms import Flat, Gaussian
from numpy.typing import NDArray
from torch import Tensor

from tests.mutants.broken_rows import Accomplice, ScoresFromRawGradients, StatisticsFromRawGradients

MICROBATCH = 5


class _Scaled(Kernel):
    """The kernel with all of its noise times a factor."""

    factor = 1.0

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        return super()._mint(guarded, support_K, ratio * self.factor)


class DividedTwice(_Scaled):
    """Noise divided by the batch twice."""

    factor = 1 / RECORDS


class PerRecordAveraged(_Scaled):
    """σC/B for every record, and then the mean of them: √B too little."""

    factor = RECORDS**-0.5


class TooLittle(_Scaled):
    """15% too little."""

    factor = 0.85


class ShortPhase(Kernel):
    """A tenth of the noise in phases of twenty steps: a table that is wrong there."""

    _share = 1.0

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        self._share = 0.1 if context.clock.steps == 20 else 1.0
        return super().release(states, context, batch)

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        return super()._mint(guarded, support_K, ratio * self._share)


class _OwnNoise(Kernel):
    """Noise of its own, of the right deviation and declared so."""

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        made = super()._mint(guarded, support_K, ratio)
        std_K = made.variance.sqrt() * self._divisor
        total_K = guarded.value + std_K * self.drawn(len(std_K))
        return made.derive(torch.where(support_K, total_K, 0.0) / self._divisor, made.variance)

    def drawn(self, count: int) -> Tensor:
        """Draws of unit deviation."""
        raise NotImplementedError


class TailWithoutNoise(_OwnNoise):
    """Noise in blocks of 1,024, and none for what a last block leaves over."""

    def drawn(self, count: int) -> Tensor:
        whole = count - count % 1024
        return torch.cat([torch.randn(whole), torch.zeros(count - whole)]).double()


class HalfPrecisionNoise(_OwnNoise):
    """Noise drawn in float16."""

    def drawn(self, count: int) -> Tensor:
        return torch.randn(count).half().double()


class BrainPrecisionNoise(_OwnNoise):
    """Noise drawn in bfloat16."""

    def drawn(self, count: int) -> Tensor:
        return torch.randn(count).bfloat16().double()


class SinglePrecisionNoise(_OwnNoise):
    """Noise drawn in float32."""

    def drawn(self, count: int) -> Tensor:
        return torch.randn(count).double()


class FewBits(_OwnNoise):
    """Noise from 12 random bits a draw, put on the grid."""

    def drawn(self, count: int) -> Tensor:
        share = (torch.randint(4096, (count,)).double() + 0.5) / 4096
        return torch.special.ndtri(share)


class LaplaceNoise(_OwnNoise):
    """Laplace noise of the same deviation."""

    def drawn(self, count: int) -> Tensor:
        return torch.distributions.Laplace(0.0, 2**-0.5).sample((count,)).double()


class ClampedNoise(_OwnNoise):
    """Gaussian noise without its tails."""

    def drawn(self, count: int) -> Tensor:
        return torch.randn(count, dtype=torch.float64).clamp(-3, 3)


class PerPublicMicrobatch(_Scaled):
    """σC for each of four microbatches, padded to a public number: twice the noise, no mistake."""

    factor = 2.0


class _Counting(Kernel):
    """Knows how many records came."""

    count = 0

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        rows = list(batch)
        self.count = sum(len(r.norm_upper_bounds()) for r in rows)
        return super().release(states, context, rows)


class RealisedDivisor(_Counting):
    """Sum and noise divided by the number of records that came."""

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        self._divisor = max(1, self.count)
        return super()._mint(guarded, support_K, ratio)


class PerMicrobatch(_Counting):
    """σC for each microbatch of five that came: more noise, and its size counts the records."""

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        microbatches = -(-self.count // MICROBATCH)
        return super()._mint(guarded, support_K & (microbatches > 0), ratio * microbatches**0.5)


class SupportOfTheRecords(Kernel):
    """Noise on the coordinates that some record kept."""

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        return super()._mint(guarded, support_K & (guarded.value != 0), ratio)


class _Wrapped(Kernel):
    """The kernel, on rows that answer wrongly."""

    rows: ClassVar[type[DenseRows]]

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        wrapped = [
            self.rows(r.z_BK, r.groups_K, r.group_count) for r in batch if isinstance(r, DenseRows)
        ]
        return super().release(states, context, wrapped)


class MissingClip(_Wrapped):
    """Every row counts as short enough."""

    class rows(DenseRows):
        def norm_upper_bounds(self) -> Tensor:
            return super().norm_upper_bounds().clamp(max=0)


class ClipsTheMean(_Wrapped):
    """The batch's mean is clipped, in place of each record."""

    class rows(DenseRows):
        def norm_upper_bounds(self) -> Tensor:
            return DenseRows(self._mean()).norm_upper_bounds()

        def weighted_sum(self, factors_BG: Tensor) -> Tensor:
            return RECORDS * DenseRows(self._mean()).weighted_sum(factors_BG)

        def _mean(self) -> Tensor:
            return self.z_BK.mean(0, keepdim=True)


class NaNReachesTheSum(_Wrapped):
    """A row that is not finite has norm 0, and is multiplied like any other."""

    class rows(DenseRows):
        def norm_upper_bounds(self) -> Tensor:
            norms_BG = super().norm_upper_bounds()
            return torch.where(norms_BG.isfinite(), norms_BG, 0.0)


class _Repeating:
    """Draws once, and gives the same again."""

    def __init__(self, noise: NoiseSource) -> None:
        self._noise = noise
        self._drawn: dict[int, NDArray[np.uint64]] = {}
        self.private = noise.private

    def words(self, count: int) -> NDArray[np.uint64]:
        if count not in self._drawn:
            self._drawn[count] = self._noise.words(count)
        return self._drawn[count]


class ReusedNoise(Kernel):
    """The first step's noise in every step."""

    def __init__(self, *args: Any, noise: NoiseSource | None, **options: Any) -> None:
        super().__init__(*args, noise=_Repeating(noise or SystemNoise()), **options)


class NoGuard(Kernel):
    """The clipper's own factors, without the kernel's cap."""

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        clipper = self.pipeline.stages.clipper
        clipped = []
        for r in batch:
            assert isinstance(r, DenseRows) and r.groups_K is not None
            norms_BG = r.norm_upper_bounds()
            c_BG = torch.stack([clipper.factors({}, norms_G) for norms_G in norms_BG])
            z_BK = (c_BG[:, r.groups_K] * r.z_BK).nan_to_num(0, 0, 0)
            clipped.append(_Clipped(z_BK, r.groups_K, r.group_count))
        return super().release(states, context, clipped)


class _Clipped(DenseRows):
    def norm_upper_bounds(self) -> Tensor:
        return torch.zeros(len(self.z_BK), self.group_count, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class OneLayersBound:
    """Clips every layer to C, and declares C for all of them."""

    groups: ClassVar[str] = "layer"

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(1.0, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (1 / norms_G).clamp(max=1)


def plan(steps: int = 20, sigma: float = 1.0, **stages: Any) -> Plan:
    """DP-SGD with other stages."""
    own = {"clipper": Flat(bound=1.0), "noiser": Gaussian(noise_multiplier=sigma)}
    return Plan((Phase("main", Pipeline(**{**own, **stages}), steps),))


UN_NOISED_STATISTICS = plan(rows=(StatisticsFromRawGradients(),))
UN_NOISED_SCORES = plan(scorer=ScoresFromRawGradients(), rows=(Accomplice(),))
ONE_LAYERS_NOISE = plan(clipper=OneLayersBound())

KERNELS = (
    DividedTwice,
    PerRecordAveraged,
    RealisedDivisor,
    PerMicrobatch,
    SupportOfTheRecords,
    MissingClip,
    ClipsTheMean,
    NaNReachesTheSum,
    ReusedNoise,
)
