"""Noise that is correlated across steps: matrix factorisation.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

from dpigu.dpcore import Plan
from dpigu.mechanisms.presets.preset import one_phase, preset
from dpigu.mechanisms.release import BandedToeplitz


@preset("bandmf", source="Choquette-Choo et al. 2023 (arXiv 2306.08153), BandMF, Toeplitz")
def bandmf(steps: int, *, bound: float = 0.5, bands: int = 4, momentum: float = 0.9) -> Plan:
    """BandMF: later steps cancel noise of earlier ones, and records take turns.

    Args:
        bands: b; a record joins one step in b, at b times the sampling rate.
        momentum: of the optimizer, in whose weights noise is to add up to least.
    """
    return one_phase(steps, bound, factorisation=BandedToeplitz(bands=bands, momentum=momentum))
