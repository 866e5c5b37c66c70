"""The laws of noise: what a noiser may name, how the kernel draws it, and its event.

The table is closed: a law is drawn by this package alone and has the event that it was proven
for, so no stage hands over noise, or a price for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from dpigu.dpcore.devices import pieces, require, to_device, unwritten
from dpigu.dpcore.errors import PrivacyError
from dpigu.dpcore.noise.rounded import rounded_gaussian
from dpigu.dpcore.noise.sources import NoiseSource
from torch import Tensor

if TYPE_CHECKING:
    from dp_accounting import DpEvent

LawName = Literal["gaussian", "gaussian-float"]

GRID_BITS = 26
"""The grid is the power of two 26 to 27 bits below multiplier × sensitivity."""
TAIL = 32
"""Deviations of the noise for which there is room above the sum: beyond are less than e⁻⁵¹²."""


class Noised(NamedTuple):
    """A sum with its noise, and the noise's standard deviation."""

    value_S: Tensor
    std: float


class Law(Protocol):
    """A distribution of noise, and the event of a release with it."""

    @property
    def says(self) -> str:
        """What a run with it may say of its noise, after the words "the noise is"."""
        ...

    @property
    def held(self) -> str:
        """How that is held: enforced, or declared where something is left open."""
        ...

    def event(self, noise_multiplier: float) -> DpEvent:
        """The event of one release at this multiplier (of all queries jointly)."""
        ...

    def noised(
        self,
        sum_S: Tensor,
        *,
        coordinates: int,
        sensitivity: float,
        noise_multiplier: float,
        records: int,
        source: NoiseSource,
    ) -> Noised:
        """The sum with noise of at least multiplier × sensitivity on every coordinate.

        Args:
            sum_S: the sum, or some coordinates of it.
            coordinates: K, of the whole sum.
            sensitivity: how far one record moves the whole sum, at most; `records` made it.
        """
        ...


class _Gaussian:
    def event(self, noise_multiplier: float) -> DpEvent:
        from dp_accounting import GaussianDpEvent

        return GaussianDpEvent(noise_multiplier)


class RoundedGaussian(_Gaussian):
    """The rounding to a grid of a release with real Gaussian noise: post-processing of it.

    release = g · (round(Σ/g) + round(N(0, s²)/g)),  s = σ(Δ + g√K)

    The sum is rounded to the grid first, which adds at most g√K to its sensitivity Δ. What is
    then released is the real Gaussian mechanism's value, rounded to the grid: both are integers
    times g, and integers pass through a rounding. So the accountants' event is exact, and the
    low bits say nothing.

    Errors: `PrivacyError` for sums and noise that do not fit below 2⁵³ steps of the grid, and
    for a sum that is not finite or longer than its records allow.

    Source: Canonne, Kamath and Steinke 2020 (noise on a lattice); docs/noise.md.
    """

    says = "an exactly rounded Gaussian on a grid: its low bits are those of the proof"
    held = "enforced"

    def noised(
        self,
        sum_S: Tensor,
        *,
        coordinates: int,
        sensitivity: float,
        noise_multiplier: float,
        records: int,
        source: NoiseSource,
    ) -> Noised:
        grid = grid_of(noise_multiplier * sensitivity)
        std = noise_multiplier * (sensitivity + grid * math.sqrt(coordinates)) * (1 + 2.0**-50)
        most = records * sensitivity / grid + 1
        if not most + TAIL * std / grid < 2**53:
            raise PrivacyError(
                "sums and noise do not fit on the grid of the noise",
                where="Kernel.release",
                got=f"{records} records, noise multiplier {noise_multiplier:g}",
                expected="less than 2⁵³ steps of the grid",
                remedy="Use a larger noise multiplier, or the noiser gaussian-float.",
            )
        threads = torch.get_num_threads()
        drawn = rounded_gaussian(source.words, len(sum_S), std / grid, threads=threads)
        drawn_S, value_S = (
            to_device(torch.from_numpy(drawn), sum_S.device),
            unwritten(len(sum_S), sum_S.device),
        )
        fits = torch.ones((), dtype=torch.bool, device=sum_S.device)
        for here in pieces(len(sum_S), sum_S.device):
            steps_P = torch.div(sum_S[here], grid, out=value_S[here]).round_()
            least, greatest = steps_P.aminmax()
            fits &= (greatest <= most) & (least >= -most)
            steps_P.add_(drawn_S[here]).mul_(grid)
        require(
            fits,
            PrivacyError(
                "a sum is not finite, or longer than its records allow",
                where="Kernel.release",
                remedy="The engine broke its contract: check its factors and sums.",
            ),
        )
        return Noised(value_S, std)


class FloatGaussian(_Gaussian):
    """Normal draws in float64, scaled and added to the sum as it is.

    Fast and familiar, and not what the proof speaks of: the low bits of sum and noise are not
    those of a real Gaussian, and can tell sums apart (Mironov 2012; Jin et al. 2022; Haney et
    al. 2022). On CUDA the generator's key has 63 bits.
    """

    says = "float64 draws: its low bits are not a Gaussian's, and what they tell is not counted"
    held = "declared"

    def noised(
        self,
        sum_S: Tensor,
        *,
        coordinates: int,
        sensitivity: float,
        noise_multiplier: float,
        records: int,
        source: NoiseSource,
    ) -> Noised:
        std = noise_multiplier * sensitivity
        return Noised(sum_S + std * _float_normal(len(sum_S), sum_S.device, source), std)


LAWS: Mapping[LawName, Law] = {"gaussian": RoundedGaussian(), "gaussian-float": FloatGaussian()}


def grid_of(std: float) -> float:
    """The power of two from 2⁻²⁷ to 2⁻²⁶ of a standard deviation."""
    if not 2.0**-900 <= std <= 2.0**900:
        raise PrivacyError(
            "noise cannot be drawn at this scale",
            where="Kernel.release",
            got=std,
            expected="a standard deviation from 2⁻⁹⁰⁰ to 2⁹⁰⁰",
        )
    return math.ldexp(1.0, math.frexp(std)[1] - 1 - GRID_BITS)


def _float_normal(size: int, device: torch.device, source: NoiseSource) -> Tensor:
    """Standard normal draws in float64, from a generator keyed by the source's bits."""
    if device.type == "cuda":
        there = torch.Generator(device).manual_seed(int(source.words(1)[0]) >> 1)
        return torch.randn(size, generator=there, device=device, dtype=torch.float64)
    here = np.random.Generator(np.random.Philox(key=source.words(2)))
    return to_device(torch.from_numpy(here.standard_normal(size)), device)
