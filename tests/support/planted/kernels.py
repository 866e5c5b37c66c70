"""Kernels, each wrong in one way, that the audits have not seen while they were made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from dpigu.audits.mechanism.traces import RECORDS
from dpigu.dpcore import (
    Bounded,
    DenseRows,
    Kernel,
    PrivacyError,
    Release,
    Released,
    Rows,
    States,
    StepContext,
)
from torch import Tensor

from tests.support.zoo.kernels import _OwnNoise, _Wrapped

# Noise ------------------------------------------------------------------------------------------


class _ByStep(Kernel):
    """The kernel with a share of its noise that depends on the step."""

    _share = 1.0

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        self._share = self.share(context.clock.step, context.clock.steps)
        return super().release(states, context, batch)

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        return super()._mint(guarded, support_K, ratio * self._share)

    def share(self, step: int, steps: int) -> float:
        """Of the noise."""
        raise NotImplementedError


class QuietSecondStep(_ByStep):
    """Next to no noise on every second step."""

    def share(self, step: int, steps: int) -> float:
        return 1e-3 if step % 2 else 1.0


class QuietLastStep(_ByStep):
    """A tenth of the noise on the last step."""

    def share(self, step: int, steps: int) -> float:
        return 0.1 if step == steps - 1 else 1.0


class SinkingNoise(_ByStep):
    """Noise that decays over the phase, charged as if it stayed."""

    def share(self, step: int, steps: int) -> float:
        return 1.0 - 0.5 * step / steps


class _Earlier(_OwnNoise):
    """Draws of its own, kept."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.past: list[Tensor] = []

    def drawn(self, count: int) -> Tensor:
        self.past.append(self.next(torch.randn(count, dtype=torch.float64)))
        return self.past[-1]

    def next(self, fresh_K: Tensor) -> Tensor:
        """This step's draws, from fresh ones and from `past`."""
        raise NotImplementedError


class SecondStepAgain(_Earlier):
    """Every second step repeats the noise of the one before."""

    def next(self, fresh_K: Tensor) -> Tensor:
        return self.past[-1] if len(self.past) % 2 else fresh_K


class AgainAfterFive(_Earlier):
    """The noise of five steps before, once more."""

    def next(self, fresh_K: Tensor) -> Tensor:
        return self.past[-5] if len(self.past) >= 5 else fresh_K


class Antithetic(_Earlier):
    """Every second step takes the noise of the one before with the other sign."""

    def next(self, fresh_K: Tensor) -> Tensor:
        return -self.past[-1] if len(self.past) % 2 else fresh_K


class CarriedOver(_Earlier):
    """Half of the variance is the last step's, charged as if it were fresh."""

    def next(self, fresh_K: Tensor) -> Tensor:
        return (fresh_K + self.past[-1]) / 2**0.5 if self.past else fresh_K


class OneDrawForTwo(_OwnNoise):
    """Every draw serves two coordinates."""

    def drawn(self, count: int) -> Tensor:
        return torch.randn((count + 1) // 2, dtype=torch.float64).repeat_interleave(2)[:count]


class OneDrawForAll(_OwnNoise):
    """A step has one draw."""

    def drawn(self, count: int) -> Tensor:
        return torch.randn(1, dtype=torch.float64).expand(count)


class CentredNoise(_OwnNoise):
    """The noise's mean is taken off, so that the sum of all coordinates has none."""

    def drawn(self, count: int) -> Tensor:
        fresh_K = torch.randn(count, dtype=torch.float64)
        return fresh_K - fresh_K.mean()


class UniformNoise(_OwnNoise):
    """Uniform noise of the same deviation."""

    def drawn(self, count: int) -> Tensor:
        return (torch.rand(count, dtype=torch.float64) - 0.5) * 12**0.5


class StudentNoise(_OwnNoise):
    """Student noise of the same deviation: heavy tails, thin shoulders."""

    def drawn(self, count: int) -> Tensor:
        return torch.distributions.StudentT(5.0).sample((count,)).double() * 0.6**0.5


class VectorsNoise(Kernel):
    """Noise on weights of several dimensions, and none on the first half: biases forgotten."""

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        made = super()._mint(guarded, support_K, ratio)
        some_K = torch.arange(len(support_K)) % 50 != 7
        raw_K = torch.where(support_K, guarded.value / self._divisor, 0.0)
        return made.derive(torch.where(some_K, made.value, raw_K), made.variance)


# What one record moves ----------------------------------------------------------------------------


class ViewsSummed(_Wrapped):
    """Four augmented views are clipped each and summed, where their mean is one record's share."""

    class rows(DenseRows):
        def weighted_sum(self, factors_BG: Tensor) -> Tensor:
            return 4 * super().weighted_sum(factors_BG)


class ClipsTheSum(_Wrapped):
    """The sum is clipped to what the batch may have, in place of each record."""

    class rows(DenseRows):
        def norm_upper_bounds(self) -> Tensor:
            return super().norm_upper_bounds().clamp(max=1e-9)

        def weighted_sum(self, factors_BG: Tensor) -> Tensor:
            sum_K = self.z_BK.nan_to_num(0, 0, 0).double().sum(0)
            return sum_K * (RECORDS / sum_K.norm().clamp(min=RECORDS))


class ClipsMicrobatches(_Wrapped):
    """Each microbatch's sum is clipped, so that one record can turn it round."""

    class rows(DenseRows):
        def norm_upper_bounds(self) -> Tensor:
            return super().norm_upper_bounds().clamp(max=1e-9)

        def weighted_sum(self, factors_BG: Tensor) -> Tensor:
            pieces = self.z_BK.nan_to_num(0, 0, 0).double().split(4)
            sums_MK = torch.stack([piece.sum(0) for piece in pieces])
            norm_M1 = sums_MK.norm(dim=1, keepdim=True).clamp(min=1.0)
            return (sums_MK / norm_M1).sum(0)


class PerCoordinateClip(_Wrapped):
    """Each coordinate is clipped to the bound, in place of the row."""

    class rows(DenseRows):
        def norm_upper_bounds(self) -> Tensor:
            return super().norm_upper_bounds().clamp(max=1e-9)

        def weighted_sum(self, factors_BG: Tensor) -> Tensor:
            return self.z_BK.nan_to_num(0, 0, 0).double().clamp(-1, 1).sum(0)


# What is released beside the noised sum -----------------------------------------------------------


class _Beside(Kernel):
    """A release whose gradient is changed by someone who knows the sum without noise."""

    raw_K: Tensor

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        self.raw_K = guarded.value / self._divisor
        return super()._mint(guarded, support_K, ratio)

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        release, after = super().release(states, context, batch)
        gradient = release.gradient
        value_D = self.changed(gradient.value)
        return replace(release, gradient=gradient.derive(value_D, gradient.variance)), after

    def changed(self, value_D: Tensor) -> Tensor:
        """The gradient that is released."""
        raise NotImplementedError


class MeanAddedBack(_Beside):
    """A thousandth of the mean without noise is added to the gradient."""

    def changed(self, value_D: Tensor) -> Tensor:
        return value_D + 1e-3 * self.raw_K


class TopKOfRaw(_Beside):
    """The gradient keeps the half of its coordinates that is largest without noise."""

    def changed(self, value_D: Tensor) -> Tensor:
        size_D = self.raw_K.abs()
        return torch.where(size_D > size_D.median(), value_D, 0.0)


class RescaledByRaw(_Beside):
    """The gradient takes the length that it has without noise."""

    def changed(self, value_D: Tensor) -> Tensor:
        return value_D * self.raw_K.norm() / value_D.norm()


class SignsOfRaw(_Beside):
    """Coordinates that the noise turned round are put back."""

    def changed(self, value_D: Tensor) -> Tensor:
        return torch.where(value_D * self.raw_K < 0, -value_D, value_D)


class VarianceOfRaw(Kernel):
    """The declared variance knows the length of the sum without noise."""

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        made = super()._mint(guarded, support_K, ratio)
        return made.derive(made.value, made.variance * (1 + 1e-6 * guarded.value.norm()))


class NoiseByTheSum(Kernel):
    """Noise of a part of the sum's own length, and not of the bound."""

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        length = float(guarded.value.norm()) / RECORDS
        return super()._mint(guarded, support_K, ratio * max(length, 0.05))


class StopsWhenFlat(Kernel):
    """A step whose sum is short is refused, as if training were over."""

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        if float(guarded.value.norm()) < 0.5:
            raise PrivacyError("converged")
        return super()._mint(guarded, support_K, ratio)
