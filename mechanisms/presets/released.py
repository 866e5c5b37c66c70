"""Plain rows, and more done with what was released: denoise it, ascend along it, test it.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

from dpigu.dpcore import Phase, Pipeline, Plan, SelectiveUpdate
from dpigu.mechanisms.clippers import Flat
from dpigu.mechanisms.presets.preset import one_phase, preset
from dpigu.mechanisms.release import Gaussian, Sharpness, SoftThreshold
from dpigu.mechanisms.statistics import LossChange, Threshold


@preset("denoising", source="after Nasr et al. 2020 (arXiv 2007.11524)", learning_rate=2.0)
def denoising(steps: int, *, bound: float = 0.5) -> Plan:
    """Shrink each released coordinate by its known noise."""
    return one_phase(steps, bound, posts=(SoftThreshold(threshold=1.0),))


@preset("dp-sat", source="Park et al. 2023 (arXiv 2306.05651), Algorithm 1")
def dp_sat(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SAT: the gradient at a point uphill along the last released one."""
    return one_phase(steps, bound, point=Sharpness())


@preset("dpsur", source="Fu et al. 2023 (arXiv 2311.14056), every look charged")
def dpsur(
    steps: int,
    *,
    bound: float = 0.5,
    look_bound: float = 0.1,
    look_multiplier: float = 4.0,
    below: float = 0.0,
) -> Plan:
    """DPSUR: keep an update only where a charged look says that it helps.

    Args:
        look_bound: the clipping norm of one record's change of loss, in nats.
        look_multiplier: the look's noise multiplier over that of the gradient.
        below: an update is kept where the released mean change is at most this.
    """
    selective_update = SelectiveUpdate(
        Pipeline(
            clipper=Flat(bound=look_bound),
            noiser=Gaussian(noise_multiplier=look_multiplier),
            statistic=LossChange(),
        ),
        Threshold(below=below),
    )
    pipeline = Pipeline(clipper=Flat(bound=bound), noiser=Gaussian())
    return Plan((Phase("main", pipeline, steps, selective_update=selective_update),))
