"""Plain rows, and more done with what was released: denoise it, ascend along it, test it.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

from dpigu.dpcore import Phase, Pipeline, Plan, SelectiveUpdate
from dpigu.mechanisms.clippers import Flat
from dpigu.mechanisms.presets.preset import one_phase, preset
from dpigu.mechanisms.release import Gaussian, LowPass, Sharpness, SoftThreshold
from dpigu.mechanisms.statistics import LossChange, Threshold, TwoPoints, ZerothOrder


@preset(
    "soft-threshold", source="Donoho and Johnstone 1994; Balle and Wang 2018", learning_rate=2.0
)
def soft_threshold(steps: int, *, bound: float = 0.5) -> Plan:
    """Shrink each released coordinate by its known noise."""
    return one_phase(steps, bound, posts=(SoftThreshold(threshold=1.0),))


@preset(
    "doppler",
    source="Zhang, Bu, Hong and Razaviyayn 2024 (arXiv 2408.13460), Algorithm 1",
    momentum=0.0,
)
def doppler(steps: int, *, bound: float = 0.5) -> Plan:
    """DOPPLER: the released gradients through a low-pass filter over the steps."""
    return one_phase(steps, bound, posts=(LowPass(),))


@preset("disk", source="Zhang et al. 2024 (arXiv 2410.03883), simplified filter")
def disk(steps: int, *, bound: float = 0.5, gain: float = 0.7, ahead: float = 0.5) -> Plan:
    """DiSK: a Kalman filter over the steps, of gradients at two weighted points.

    Args:
        gain: κ, the weight of a new gradient.
        ahead: γ, how far ahead the other point is, in lengths of the last move.
    """
    posts = (LowPass(feedback=(gain - 1,), feedforward=(gain,)),)
    return one_phase(steps, bound, statistic=TwoPoints(gain=gain, ahead=ahead), posts=posts)


@preset("dp-sat", source="Park et al. 2023 (arXiv 2306.05651), Algorithm 1")
def dp_sat(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SAT: the gradient at a point uphill along the last released one."""
    return one_phase(steps, bound, point=Sharpness())


@preset(
    "dp-zo",
    source="Tang et al. 2024 (arXiv 2401.04343), Algorithm 1",
    learning_rate=0.01,
    momentum=0.0,
)
def dp_zo(steps: int, *, bound: float = 0.5, radius: float = 0.001) -> Plan:
    """DP-ZO: no gradients; a clipped difference of two losses along a public direction.

    Args:
        bound: C, of one record's slope.
        radius: how far aside the losses are taken.
    """
    return one_phase(steps, bound, statistic=ZerothOrder(radius=radius))


@preset(
    "dpsur", source="Fu et al. 2023 (arXiv 2311.14056) and the authors' code, every look charged"
)
def dpsur(
    steps: int,
    *,
    bound: float = 0.5,
    look_bound: float = 0.001,
    look_multiplier: float = 2.0 / 3.0,
    look_share: float = 0.25,
    deviations: float = -0.5,
) -> Plan:
    """DPSUR: keep an update only where a charged look says that it helps.

    The defaults are the authors' for MNIST at ε = 2: σ_v = 1 beside σ_t = 1.5, looks at 256
    records beside batches of 1,024, and the threshold −C_v where the noise has 2·C_v·σ_v.

    Args:
        look_bound: C_v, the clipping norm of one record's change of loss, in nats.
        look_multiplier: the look's noise multiplier over that of the gradient.
        look_share: the look's sampling rate over that of the steps.
        deviations: an update is kept where the released mean change is at most so many standard
            deviations of its noise.
    """
    selective_update = SelectiveUpdate(
        Pipeline(
            clipper=Flat(bound=look_bound),
            noiser=Gaussian(noise_multiplier=look_multiplier),
            statistic=LossChange(),
        ),
        Threshold(deviations=deviations),
        share=look_share,
    )
    pipeline = Pipeline(clipper=Flat(bound=bound), noiser=Gaussian())
    return Plan((Phase("main", pipeline, steps, selective_update=selective_update),))
