"""Noisers: the distribution of the noise and its event."""

from __future__ import annotations

from dataclasses import dataclass

from dp_accounting import DpEvent, GaussianDpEvent
from dpigu.dpcore import register
from torch import Tensor


@register("noiser", "gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """The Gaussian mechanism.

    noise ~ N(0, (σC)²), independent on every coordinate of the support

    Args:
        noise_multiplier: σ, the standard deviation in units of the bound C; 0 for no noise and
            no claim. The trainer scales it to the target ε.

    Source: Dwork and Roth 2014, appendix A; Abadi et al. 2016.
    Privacy: the kernel scales unit noise to σ times the clipper's bound; the event is
    `GaussianDpEvent(σ)`; checked by tests/mechanisms/clippers/test_boundary.py.
    """

    noise_multiplier: float = 1.0

    def event(self, noise_multiplier: float) -> DpEvent:
        return GaussianDpEvent(noise_multiplier)

    def sample(self, normal_K: Tensor) -> Tensor:
        return normal_K
