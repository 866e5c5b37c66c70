"""Train a part of the coordinates: at random, by weight, by layer or by votes.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

import math

from dpigu.dpcore import MaskScheduler, Phase, Pipeline, Plan, Scorer
from dpigu.mechanisms.clippers import Flat
from dpigu.mechanisms.presets.preset import one_phase, preset, two_phases
from dpigu.mechanisms.release import Gaussian
from dpigu.mechanisms.support import (
    NamedLayers,
    Random,
    RandomFreeze,
    SignalEnergy,
    TopK,
    TopVotes,
    VoteCount,
    WeightMagnitude,
)


@preset("random-freeze", source="Zhu and Blaschko 2021 (arXiv 2112.00845)")
def random_freeze(steps: int, *, bound: float = 0.5) -> Plan:
    """A fresh random support at every step, shrinking."""
    return one_phase(steps, bound, scheduler=RandomFreeze())


ADAMCZEWSKI_PARK = "Adamczewski and Park 2023 (arXiv 2303.04612)"


@preset("freezing", source=f"after {ADAMCZEWSKI_PARK}, parameter freezing")
def freezing(
    steps: int, *, bound: float = 0.5, ratio: float = 0.5, scorer: Scorer | None = None
) -> Plan:
    """The half of the parameters with the largest initial weights; the rest are frozen.

    Args:
        ratio: the share that is trained.
        scorer: which ones; the largest initial weights unless `Random()` is given.
    """
    scorer = scorer if scorer is not None else WeightMagnitude()
    return one_phase(steps, bound, scorer=scorer, scheduler=TopK(ratio=ratio))


@preset("freezing-at-random", source=f"{ADAMCZEWSKI_PARK}, parameter freezing at random")
def freezing_at_random(steps: int, *, bound: float = 0.5) -> Plan:
    """A fixed random half of the parameters."""
    return freezing(steps, bound=bound, scorer=Random())


@preset("random-selection", source=f"{ADAMCZEWSKI_PARK}, parameter selection at random")
def random_selection(steps: int, *, bound: float = 0.5, ratio: float = 0.5) -> Plan:
    """A fresh random half of the parameters at every step."""
    return one_phase(steps, bound, scheduler=RandomFreeze(ratio=ratio, end=ratio))


@preset("tp-topk", source="after Zhang and Xie 2026 (arXiv 2606.04375)", momentum=0.0)
def tp_topk(steps: int, *, bound: float = 0.5, warm_up: float = 0.1, ratio: float = 0.2) -> Plan:
    """TP-TopK: a warm-up scores coordinates by their energy without noise, and the best train on.

    Args:
        warm_up: the share of the steps that score.
        ratio: ρ, the share of coordinates that train afterwards.
    """
    warming = {"scorer": SignalEnergy()}
    return two_phases(steps, bound, warm_up, ("warm-up", warming), {"scheduler": TopK(ratio=ratio)})


@preset("linear-probing", source="after Abadi et al. 2016, section 5.3")
def linear_probing(steps: int, *, bound: float = 0.5) -> Plan:
    """The last layer alone."""
    return one_phase(steps, bound, scheduler=NamedLayers())


@preset("voted-top-k", source="this project; local in Liu et al. 2020 (arXiv 2003.10637)")
def voted_top_k(
    steps: int, *, bound: float = 0.5, votes: float = 0.1, kept: float = 0.5, votes_for: float = 0.1
) -> Plan:
    """Records vote for their largest coordinates, and the winners train.

    Args:
        votes: the share of the steps that count votes.
        kept: the share of coordinates that train.
        votes_for: the share of coordinates that each record votes for.
    """
    before = min(max(1, math.floor(votes * steps)), steps - 1)
    counting = Pipeline(
        clipper=Flat(bound=1.0),
        noiser=Gaussian(),
        statistic=TopVotes(ratio=votes_for),
        scorer=VoteCount(),
    )
    scheduler: MaskScheduler = TopK(ratio=kept, reads=("vote-count",))
    main = Pipeline(clipper=Flat(bound=bound), noiser=Gaussian(), scheduler=scheduler)
    return Plan((Phase("votes", counting, before), Phase("main", main, steps - before)))
