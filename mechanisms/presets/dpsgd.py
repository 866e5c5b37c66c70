"""DP-SGD, the same with other models, features, optimizers and views, and plain training.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.mechanisms.clippers import Flat, PerGroup, Unclipped
from dpigu.mechanisms.presets.preset import one_phase, preset
from dpigu.mechanisms.release import Gaussian
from dpigu.mechanisms.statistics import ChannelMoments
from dpigu.mechanisms.views import ShiftFlip

TRAMER_BONEH = "Tramèr and Boneh 2021 (arXiv 2011.11660)"


@preset("dpsgd", source="Abadi et al. 2016, Algorithm 1")
def dpsgd(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SGD: clip to C, sum, add noise.

    Examples:
        >>> dpsgd(100, bound=0.3).phases[0].pipeline.clipper
        Flat(bound=0.3)
    """
    return one_phase(steps, bound)


@preset(
    "dp-adambc",
    source="Tang, Shpilevskiy and Lécuyer 2023 (arXiv 2312.14334), Algorithm 1",
    optimizer="adam-bc",
    learning_rate=0.005,
)
def dp_adambc(steps: int, *, bound: float = 0.5) -> Plan:
    """Adam that subtracts the noise's variance from its second moment."""
    return dpsgd(steps, bound=bound)


@preset(
    "dp-muon",
    source="after Kim and Fan 2026 (arXiv 2605.12994); Jordan et al. 2024",
    optimizer="muon",
    learning_rate=0.02,
    schedule="linear",
)
def dp_muon(steps: int, *, bound: float = 0.5) -> Plan:
    """Muon along the singular directions of the released gradients' momentum.

    Args:
        bound: C of all matrices and vectors together; each has C/√G of G.
    """
    return one_phase(steps, bound, clipper=PerGroup(bound=bound, groups="parameter"))


@preset("dpsgd-ema", source="De et al. 2022 (arXiv 2204.13650), section 3.4", average="ema")
def dpsgd_ema(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SGD with an exponential moving average of the weights."""
    return dpsgd(steps, bound=bound)


@preset("dpsgd-ts", source="Papernot et al. 2021 (arXiv 2007.14191)", model="tempered")
def dpsgd_ts(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SGD of the data's own net with tempered sigmoids for its activations."""
    return dpsgd(steps, bound=bound)


@preset("dpsgd-hf", source=TRAMER_BONEH, features="scattering", model="scattering-linear")
def dpsgd_hf(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SGD of a linear model on scattering features, normalised within the record."""
    return dpsgd(steps, bound=bound)


@preset("dpsgd-hf-cnn", source=TRAMER_BONEH, features="scattering", model="scattering-cnn")
def dpsgd_hf_cnn(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SGD of a small convolutional net on scattering features."""
    return dpsgd(steps, bound=bound)


@preset(
    "dpsgd-hf-channels",
    source=f"{TRAMER_BONEH}, section 3",
    features="scattering",
    model="scattering-linear-channels",
)
def dpsgd_hf_channels(
    steps: int, *, bound: float = 0.5, moments: int = 10, moments_bound: float = 1.0
) -> Plan:
    """DP-SGD on scattering features, normalised by channel moments of a charged phase.

    Args:
        steps: of both phases together; all are charged.
        bound: C of the main phase.
        moments: the steps that release the channels' moments.
        moments_bound: C of one record's moments.
    """
    return _after_moments(steps, bound, moments, moments_bound)


@preset(
    "dpsgd-centred",
    source=f"this project; {TRAMER_BONEH}, section 3, has a channel's moments",
    features="even-scattering",
    model="centred-linear",
)
def dpsgd_centred(
    steps: int, *, bound: float = 0.5, moments: int = 2, moments_bound: float = 11.0
) -> Plan:
    """DP-SGD on features of norm 10 less their mean, which a charged phase releases.

    Args:
        steps: of both phases together; all are charged.
        bound: C of the main phase.
        moments: the steps that release the moments of every coordinate.
        moments_bound: C of one record's moments; its mean square adds little to the norm of 10.
    """
    return _after_moments(steps, bound, moments, moments_bound)


def _after_moments(steps: int, bound: float, moments: int, moments_bound: float) -> Plan:
    statistic = Pipeline(
        clipper=Flat(bound=moments_bound), noiser=Gaussian(), statistic=ChannelMoments()
    )
    before = min(moments, steps - 1)
    (main,) = dpsgd(steps - before, bound=bound).phases
    return Plan((Phase("moments", statistic, before), main))


@preset(
    "dpsgd-procedural",
    source="after Coates and Ng 2011, Thiry et al. 2021 (arXiv 2101.07528)",
    features="patches",
    model="linear",
)
def dpsgd_procedural(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SGD of a linear model on whitened patches of procedural images, made without any data."""
    return dpsgd(steps, bound=bound)


@preset("augmented", source="De et al. 2022 (arXiv 2204.13650), section 3.2")
def augmented(steps: int, *, bound: float = 0.5, count: int = 4, flip: bool = False) -> Plan:
    """Augmentation multiplicity: the mean gradient of four shifted views of each record.

    Args:
        count: the views of every record.
        flip: mirror them too: for photographs.
    """
    return one_phase(steps, bound, views=ShiftFlip(count=count, flip=flip))


@preset("non-private")
def non_private(steps: int) -> Plan:
    """Plain training: nothing is clipped, no noise is drawn, and nothing is claimed."""
    pipeline = Pipeline(clipper=Unclipped(), noiser=Gaussian(noise_multiplier=0.0))
    return Plan((Phase("main", pipeline, steps),))
