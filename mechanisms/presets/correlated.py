"""Noise that is correlated across steps: matrix factorisation.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

from dpigu.dpcore import Plan
from dpigu.mechanisms.presets.preset import one_phase, preset
from dpigu.mechanisms.release import BandedToeplitz, BufferedToeplitz


@preset("bandmf", source="Choquette-Choo et al. 2023 (arXiv 2306.08153), BandMF, Toeplitz")
def bandmf(steps: int, *, bound: float = 0.5, bands: int = 4, momentum: float = 0.9) -> Plan:
    """BandMF: later steps cancel noise of earlier ones, and records take turns.

    Args:
        bands: b; a record joins one step in b, at b times the sampling rate.
        momentum: of the optimizer, in whose weights noise is to add up to least.
    """
    return one_phase(steps, bound, factorisation=BandedToeplitz(bands=bands, momentum=momentum))


@preset(
    "blt",
    source="Dvijotham et al. 2024 (arXiv 2404.16706); McMahan et al. 2024 (arXiv 2408.08868)",
)
def blt(
    steps: int, *, bound: float = 0.5, turns: int = 4, buffers: int = 2, momentum: float = 0.9
) -> Plan:
    """BLT: noise that all later steps cancel, kept in a few vectors; charged as one release.

    Args:
        turns: b; a record joins one step in b, at b times the sampling rate.
        buffers: d, the vectors that keep the past.
        momentum: of the optimizer, in whose weights noise is to add up to least.
    """
    factorisation = BufferedToeplitz(bands=turns, count=buffers, momentum=momentum)
    return one_phase(steps, bound, factorisation=factorisation)


@preset("dp-lambda-cgd", source="Kalinin et al. 2026 (arXiv 2601.22334), in fixed turns")
def dp_lambda_cgd(
    steps: int, *, bound: float = 0.5, turns: int = 4, correction: float = 0.9
) -> Plan:
    """DP-λCGD: a step takes λ times the noise of the step before away again.

    Args:
        turns: b; a record joins one step in b, at b times the sampling rate.
        correction: λ.
    """
    factorisation = BufferedToeplitz(bands=turns, given=((correction, correction),))
    return one_phase(steps, bound, factorisation=factorisation)
