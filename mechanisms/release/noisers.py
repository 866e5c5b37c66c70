"""Noisers: each names a law of noise, which the kernel draws and the accountants know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpigu.dpcore import register
from dpigu.dpcore.noise import LawName


@register("noiser", "gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """The Gaussian mechanism.

    noise ~ N(0, (σC)²), independent on every coordinate of the support, exactly rounded to a
    grid 2²⁶ times finer

    Args:
        noise_multiplier: σ, the standard deviation in units of the bound C; 0 for no noise and
            no claim. The trainer scales it to the target ε.

    Source: Dwork and Roth 2014, appendix A; Abadi et al. 2016.
    Privacy: the kernel draws σ times the clipper's bound, the rounding to the grid included
    (docs/noise.md); the event is `GaussianDpEvent(σ)`; checked by tests/laws/noise/test_noise.py.
    """

    law: ClassVar[LawName] = "gaussian"
    noise_multiplier: float = 1.0


@register("noiser", "gaussian-float")
@dataclass(frozen=True, kw_only=True)
class FloatGaussian:
    """The Gaussian mechanism in float64, as training libraries draw it.

    noise ~ N(0, (σC)²), independent on every coordinate of the support, but for its low bits

    Args:
        noise_multiplier: σ, as for `gaussian`.

    Source: Abadi et al. 2016; what it leaves open: Mironov 2012; Haney et al. 2022.
    Privacy: the event is that of a real Gaussian. The low bits of float64 draws and sums are not,
    and what they tell is not counted (docs/noise.md).
    """

    law: ClassVar[LawName] = "gaussian-float"
    noise_multiplier: float = 1.0
