"""AdaDPIGU: train the important coordinates first, as the paper writes it and as this project does.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`).
"""

from __future__ import annotations

from dpigu.dpcore import Plan
from dpigu.mechanisms.points import MaskedWeights
from dpigu.mechanisms.presets.preset import preset, two_phases
from dpigu.mechanisms.release import AffineRestorer
from dpigu.mechanisms.rows import EmaStandardizer, GroupStandardizer, RowTopK
from dpigu.mechanisms.support import Coherent, LinearUnfreeze, MeanAbsolute


@preset("adadpigu", source="after arXiv 2507.06525 and arXiv 1908.07643")
def adadpigu(
    steps: int, *, bound: float = 0.5, pretraining: float = 0.1, ratio: float = 0.8
) -> Plan:
    """AdaDPIGU: coherent importance, progressive unfreezing, a scale for each layer.

    Args:
        steps: of both phases together; all are charged.
        bound: C.
        pretraining: the share of the steps that learn the importance.
        ratio: the share of coordinates trained when the main phase starts; all are at its end.
    """
    main = {
        "scheduler": LinearUnfreeze(ratio=ratio),
        "rows": (GroupStandardizer(),),
        "posts": (AffineRestorer(of="group-standardizer"),),
    }
    return two_phases(steps, bound, pretraining, ("pretraining", {"scorer": Coherent()}), main)


@preset("adadpigu-paper", source="arXiv 2507.06525, Algorithms 1 and 2 and section 4", momentum=0.0)
def adadpigu_paper(
    steps: int,
    *,
    bound: float = 0.5,
    pretraining: float = 0.1,
    ratio: float = 0.6,
    row_ratio: float = 0.6,
) -> Plan:
    """AdaDPIGU as the paper writes it, made private.

    Args:
        steps: of both phases together; all are charged.
        bound: C.
        pretraining: the share of the steps that Algorithm 1 takes; the paper gives no number.
        ratio: r, the share of coordinates trained when the main phase starts; all are at its end.
        row_ratio: the share of a record's live coordinates that section 4 keeps; Algorithm 2, as
            printed, keeps all.
    """
    main = {
        "scheduler": LinearUnfreeze(ratio=ratio),
        "point": MaskedWeights(),
        "rows": (EmaStandardizer(), RowTopK(ratio=row_ratio, reads=("scheduler",))),
        "posts": (AffineRestorer(of="ema-standardizer"),),
    }
    return two_phases(steps, bound, pretraining, ("pretraining", {"scorer": MeanAbsolute()}), main)
