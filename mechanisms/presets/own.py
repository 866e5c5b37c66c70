"""The plans of this project's own method and of its baselines; others are in `methods`.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpigu.dpcore import Phase, Pipeline, Plan, RowMap
from dpigu.mechanisms.clippers.flat import Flat, Unclipped
from dpigu.mechanisms.points import MaskedWeights
from dpigu.mechanisms.release.noisers import Gaussian
from dpigu.mechanisms.release.restorers import AffineRestorer
from dpigu.mechanisms.rows.sparsifiers import RowTopK
from dpigu.mechanisms.rows.standardizers import EmaStandardizer, GroupStandardizer
from dpigu.mechanisms.statistics.moments import ChannelMoments
from dpigu.mechanisms.support.schedulers import LinearUnfreeze
from dpigu.mechanisms.support.scorers import Coherent, MeanAbsolute


def dpsgd(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SGD: clip to C, sum, add noise (Abadi et al. 2016, Algorithm 1)."""
    return Plan((Phase("main", Pipeline(clipper=Flat(bound=bound), noiser=Gaussian()), steps),))


def dpsgd_hf_channels(
    steps: int, *, bound: float = 0.5, moments: int = 10, moments_bound: float = 1.0
) -> Plan:
    """DP-SGD on features whose channels are normalised by released moments (arXiv 2011.11660).

    Args:
        steps: of both phases together; all are charged.
        bound: C of the main phase.
        moments: the steps that release the channels' moments.
        moments_bound: C of one record's moments.
    """
    statistic = Pipeline(
        clipper=Flat(bound=moments_bound), noiser=Gaussian(), statistic=ChannelMoments()
    )
    before = min(moments, steps - 1)
    return Plan(
        (
            Phase("moments", statistic, before),
            Phase("main", Pipeline(clipper=Flat(bound=bound), noiser=Gaussian()), steps - before),
        )
    )


def adadpigu_paper(
    steps: int,
    *,
    bound: float = 0.5,
    pretraining: float = 0.1,
    ratio: float = 0.6,
    row_ratio: float | None = None,
) -> Plan:
    """AdaDPIGU as written, made private (arXiv 2507.06525, Algorithms 1 and 2).

    Args:
        steps: of both phases together; all are charged.
        bound: C.
        pretraining: the share of the steps that Algorithm 1 takes; the paper gives no number.
        ratio: r, the share of coordinates live when the main phase starts; all are at its end.
        row_ratio: the share of each record's row that section 4 keeps; Algorithm 2 keeps all.
    """
    clipper, noiser = Flat(bound=bound), Gaussian()
    rows: tuple[RowMap, ...] = (EmaStandardizer(),)
    if row_ratio is not None:
        rows += (RowTopK(ratio=row_ratio),)
    before, after = _split(steps, pretraining)
    return Plan(
        (
            Phase("pretraining", Pipeline(clipper, noiser, scorer=MeanAbsolute()), before),
            Phase(
                "main",
                Pipeline(
                    clipper,
                    noiser,
                    scheduler=LinearUnfreeze(ratio=ratio),
                    point=MaskedWeights(),
                    rows=rows,
                    posts=(AffineRestorer(of="ema-standardizer"),),
                ),
                after,
            ),
        )
    )


def adadpigu(
    steps: int, *, bound: float = 0.5, pretraining: float = 0.1, ratio: float = 0.8
) -> Plan:
    """AdaDPIGU with the parts that can pay: coherent importance and a scale for each layer.

    Args:
        steps: of both phases together; all are charged.
        bound: C.
        pretraining: the share of the steps that learn the importance.
        ratio: the share of coordinates live when the main phase starts; all are at its end.
    """
    clipper, noiser = Flat(bound=bound), Gaussian()
    before, after = _split(steps, pretraining)
    return Plan(
        (
            Phase("pretraining", Pipeline(clipper, noiser, scorer=Coherent()), before),
            Phase(
                "main",
                Pipeline(
                    clipper,
                    noiser,
                    scheduler=LinearUnfreeze(ratio=ratio),
                    rows=(GroupStandardizer(),),
                    posts=(AffineRestorer(of="group-standardizer"),),
                ),
                after,
            ),
        )
    )


def non_private(steps: int) -> Plan:
    """Plain training: nothing is clipped, no noise is drawn, and nothing is claimed."""
    pipeline = Pipeline(clipper=Unclipped(), noiser=Gaussian(noise_multiplier=0.0))
    return Plan((Phase("main", pipeline, steps),))


def _split(steps: int, share: float) -> tuple[int, int]:
    """A share of the steps, at least one of them if there are two, and the rest."""
    before = min(max(1, round(share * steps)), steps - 1)
    return before, steps - before


@dataclass(frozen=True)
class Preset:
    """A plan by name: `plan(steps)` makes it with its defaults.

    Args:
        name: as the command line has it.
        summary: one line for a list.
        source: where it comes from.
        plan: from the number of steps of all phases together.
        training: what it needs beside the plan, unless the user says otherwise: `features` and
            `model` by name, and settings of the run.
    """

    name: str
    summary: str
    source: str
    plan: Callable[[int], Plan]
    training: Mapping[str, Any] = field(default_factory=dict)
