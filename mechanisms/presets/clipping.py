"""Other ways to clip: by coordinate, layer or quantile, and to a norm.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

from dpigu.dpcore import Plan
from dpigu.mechanisms.clippers import (
    Automatic,
    ClippedCount,
    GroupCounts,
    GroupQuantile,
    LeastError,
    Normalised,
    NormHistogram,
    PerGroup,
    Quantile,
)
from dpigu.mechanisms.presets.preset import one_phase, preset
from dpigu.mechanisms.release import AffineRestorer
from dpigu.mechanisms.rows import AdaClip, MacAdam


@preset("adaclip", source="Pichapati et al. 2019 (arXiv 1908.07643), Algorithm 2")
def adaclip(steps: int, *, bound: float = 0.5) -> Plan:
    """AdaCliP: centre and scale every coordinate by released moments."""
    posts = (AffineRestorer(of="adaclip"),)
    return one_phase(steps, bound, rows=(AdaClip(),), posts=posts)


@preset("automatic-clipping", source="Bu et al. 2023 (arXiv 2206.07136)")
def automatic_clipping(steps: int, *, bound: float = 0.5) -> Plan:
    """AUTO-S: scale every row to just below the bound."""
    return one_phase(steps, bound, clipper=Automatic(bound=bound))


@preset(
    "normalised-clipping",
    source="Das et al. 2021 (arXiv 2106.07094); Bu et al. 2023 (arXiv 2206.07136)",
)
def normalised_clipping(steps: int, *, bound: float = 0.5) -> Plan:
    """Scale every row to exactly the bound."""
    return one_phase(steps, bound, clipper=Normalised(bound=bound))


@preset("per-layer-clipping", source="McMahan et al. 2018 (arXiv 1710.06963), section 2.3")
def per_layer_clipping(steps: int, *, bound: float = 0.5) -> Plan:
    """The same bound for every layer, C/√G, with one joint bound."""
    return one_phase(steps, bound, clipper=PerGroup(bound=bound))


@preset("quantile-clipping", source="Andrew et al. 2021 (arXiv 1905.03871), Algorithm 1")
def quantile_clipping(steps: int, *, bound: float = 0.5, quantile: float = 0.5) -> Plan:
    """A bound that follows the median of the norms by a noised count.

    Args:
        bound: C at the first step.
        quantile: γ, the share of records to leave unclipped.
    """
    clipper = Quantile(bound=bound, quantile=quantile)
    return one_phase(steps, bound, clipper=clipper, queries=(ClippedCount(),))


@preset(
    "dp-macadam",
    source="Tasnim, Sankar and Kosut 2026 (arXiv 2606.05435) and the authors' code",
    optimizer="adam",
    learning_rate=0.005,
)
def dp_macadam(steps: int, *, bound: float = 1.0) -> Plan:
    """DP-MacAdam: the moments that steer Adam also centre and scale a record's gradient."""
    posts = (AffineRestorer(of="mac-adam"),)
    return one_phase(steps, bound, rows=(MacAdam(),), posts=posts)


@preset("adaptive-per-layer", source="after He et al. 2023 (arXiv 2212.01539)")
def adaptive_per_layer(steps: int, *, bound: float = 0.5, quantile: float = 0.5) -> Plan:
    """Bounds of layers that follow the median of the norms there; the joint bound stays.

    Args:
        quantile: γ, the share of records to leave unclipped in a layer.
    """
    clipper = GroupQuantile(bound=bound, quantile=quantile)
    return one_phase(steps, bound, clipper=clipper, queries=(GroupCounts(),))


@preset(
    "dc-sgd",
    source="after Wei, Li, Gong and Chen 2025 (arXiv 2503.22988), DC-SGD-E",
    learning_rate=0.1,
)
def dc_sgd(steps: int, *, bound: float = 0.5) -> Plan:
    """DC-SGD-E: the bound that weighs noise against clipping, by a noised histogram of norms.

    Args:
        bound: C at the first step.
    """
    clipper = LeastError(bound=bound)
    return one_phase(steps, bound, clipper=clipper, queries=(NormHistogram(),))
