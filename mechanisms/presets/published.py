"""Published methods as plans: each a few lines of the same parts.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C everywhere; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from dpigu.dpcore import MaskScheduler, Phase, Pipeline, Plan, Scorer, SelectiveUpdate, Subspace
from dpigu.mechanisms.clippers.flat import Flat
from dpigu.mechanisms.clippers.per_group import PerGroup
from dpigu.mechanisms.clippers.quantile import Quantile
from dpigu.mechanisms.clippers.queries import ClippedCount
from dpigu.mechanisms.clippers.scaled import Automatic, Normalised
from dpigu.mechanisms.release.denoisers import SoftThreshold
from dpigu.mechanisms.release.noisers import Gaussian
from dpigu.mechanisms.release.restorers import AffineRestorer
from dpigu.mechanisms.release.sharpness import Sharpness
from dpigu.mechanisms.rows.adaclip import AdaClip
from dpigu.mechanisms.rows.codes import Decode, Encode
from dpigu.mechanisms.rows.low_rank import LowRank, LowRankRestorer
from dpigu.mechanisms.rows.projections import Decompose, Lift, Project, ProjectReleased, Recompose
from dpigu.mechanisms.statistics.selective_update import LossChange, Threshold
from dpigu.mechanisms.subspaces import PublicSubspace, ReleasedSubspace
from dpigu.mechanisms.support.named_layers import NamedLayers
from dpigu.mechanisms.support.schedulers import RandomFreeze, TopK
from dpigu.mechanisms.support.scorers import Random, WeightMagnitude
from dpigu.mechanisms.support.votes import TopVotes, VoteCount
from dpigu.mechanisms.views import ShiftFlip


def one_phase(steps: int, bound: float, **slots: Any) -> Plan:
    """One phase of DP-SGD, with a flat clipper unless another is given, and more stages."""
    slots.setdefault("clipper", Flat(bound=bound))
    return Plan((Phase("main", Pipeline(noiser=Gaussian(), **slots), steps),))


def after_plain(steps: int, bound: float, size: int, **slots: Any) -> Plan:
    """Three tenths of the steps as plain DP-SGD, whose releases make a subspace; then more."""
    before = min(max(1, round(0.3 * steps)), steps - 1)
    clipper, noiser = Flat(bound=bound), Gaussian()
    plain = Pipeline(clipper, noiser, subspace=ReleasedSubspace(size=size))
    main = Pipeline(clipper, noiser, **slots)
    return Plan((Phase("plain", plain, before), Phase("main", main, steps - before)))


def dpsur(
    steps: int,
    *,
    bound: float = 0.5,
    look_bound: float = 0.1,
    look_multiplier: float = 4.0,
    below: float = 0.0,
) -> Plan:
    """DPSUR: keep an update only where a charged look says that it helps (Fu et al. 2023).

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


def adaclip(steps: int, *, bound: float = 0.5) -> Plan:
    """AdaCliP: centre and scale every coordinate (Pichapati et al. 2019, Algorithm 2)."""
    posts = (AffineRestorer(of="adaclip"),)
    return one_phase(steps, bound, rows=(AdaClip(),), posts=posts)


def quantile_clipping(steps: int, *, bound: float = 0.5) -> Plan:
    """Clip at a quantile that a noised count follows (Andrew et al. 2021, Algorithm 1)."""
    return one_phase(
        steps, bound, clipper=Quantile(bound=bound, quantile=0.2), queries=(ClippedCount(),)
    )


def automatic_clipping(steps: int, *, bound: float = 0.5) -> Plan:
    """AUTO-S: every row brought near the bound (Bu et al. 2023)."""
    return one_phase(steps, bound, clipper=Automatic(bound=bound))


def normalised_clipping(steps: int, *, bound: float = 0.5) -> Plan:
    """Every row brought to the bound exactly (Das et al. 2021)."""
    return one_phase(steps, bound, clipper=Normalised(bound=bound))


def per_layer_clipping(steps: int, *, bound: float = 0.5) -> Plan:
    """A bound for every layer, with one joint bound (McMahan et al. 2018)."""
    return one_phase(steps, bound, clipper=PerGroup(bound=bound, weights="dimension"))


def random_freeze(steps: int, *, bound: float = 0.5) -> Plan:
    """A fresh random support at every step (Zhu and Blaschko 2021)."""
    return one_phase(steps, bound, scheduler=RandomFreeze())


def selection(
    steps: int, *, bound: float = 0.5, ratio: float = 0.5, scorer: Scorer | None = None
) -> Plan:
    """Train a fixed share of the parameters, chosen publicly (Adamczewski and Park 2023).

    Args:
        ratio: the share that is trained.
        scorer: which ones; the largest initial weights unless `Random()` is given.
    """
    scorer = scorer if scorer is not None else WeightMagnitude()
    return one_phase(steps, bound, scorer=scorer, scheduler=TopK(ratio=ratio))


def random_selection(steps: int, *, bound: float = 0.5) -> Plan:
    """The same with a random choice: the control."""
    return selection(steps, bound=bound, scorer=Random())


def linear_probing(steps: int, *, bound: float = 0.5) -> Plan:
    """Train the last layer alone (Abadi et al. 2016, section 5.3)."""
    return one_phase(steps, bound, scheduler=NamedLayers())


def pdp_sgd(steps: int, *, bound: float = 0.5, size: int = 16) -> Plan:
    """PDP-SGD: drop the noise outside a subspace (Zhou et al. 2021), of released gradients.

    Args:
        size: K, the dimension of the subspace, learnt over the first three tenths of the steps.
    """
    return after_plain(steps, bound, size, posts=(ProjectReleased(),))


def pdp_sgd_public(steps: int, *, bound: float = 0.5, size: int = 16) -> Plan:
    """PDP-SGD as published: the subspace of public gradients (Zhou et al. 2021, Algorithm 1)."""
    subspace = PublicSubspace(size=size)
    return one_phase(steps, bound, subspace=subspace, posts=(ProjectReleased(),))


def pcdp_sgd(steps: int, *, bound: float = 0.5, size: int = 16) -> Plan:
    """PCDP-SGD: project each record's gradient before it is clipped (Sha et al. 2023)."""
    return after_plain(steps, bound, size, rows=(Project(size=size),), posts=(Lift(),))


def gep(steps: int, *, bound: float = 0.5, size: int = 4, subspace: Subspace | None = None) -> Plan:
    """GEP: embedding and residual clipped apart, released together (Yu et al. 2021a).

    Args:
        size: K, the dimension of the subspace.
        subspace: where it comes from: the released gradients unless another is given.
    """
    return one_phase(
        steps,
        bound,
        subspace=subspace if subspace is not None else ReleasedSubspace(size=size),
        rows=(Decompose(size=size),),
        clipper=PerGroup(groups="parameter", weights=(0.4, 1.0), bound=bound),
        posts=(Recompose(),),
    )


def gep_public(steps: int, *, bound: float = 0.5, size: int = 16) -> Plan:
    """GEP as published: the subspace of public gradients (Yu et al. 2021a, Algorithm 1)."""
    return gep(steps, bound=bound, size=size, subspace=PublicSubspace(size=size))


def dpdr(steps: int, *, bound: float = 0.5) -> Plan:
    """DPDR: along the last released gradient and across it, while they agree (Liu et al. 2024).

    Half of the steps are decomposed, and half are plain DP-SGD.
    """
    before = min(max(1, steps // 2), steps - 1)
    last = ReleasedSubspace(size=1, decay=0.0)
    (early,) = gep(before, bound=bound, size=1, subspace=last).phases
    (main,) = one_phase(steps - before, bound).phases
    return Plan((dataclasses.replace(early, name="early"), main))


def rgp(steps: int, *, bound: float = 0.5, rank: int = 8) -> Plan:
    """RGP: gradients of low-rank carriers of every weight matrix (Yu et al. 2021b).

    Args:
        rank: of the carriers.
    """
    rows, posts = (LowRank(rank=rank),), (LowRankRestorer(),)
    return one_phase(steps, bound, rows=rows, posts=posts)


def gradient_encoding(steps: int, *, bound: float = 0.5, block: int = 2) -> Plan:
    """Gradients in a public linear code of half their length (after Nasr et al. 2020).

    Args:
        block: how many coordinates share one of the code.
    """
    return one_phase(steps, bound, rows=(Encode(block=block),), posts=(Decode(),))


def denoising(steps: int, *, bound: float = 0.5) -> Plan:
    """The released gradient, each coordinate shrunk by its noise (after Nasr et al. 2020)."""
    return one_phase(steps, bound, posts=(SoftThreshold(threshold=1.0),))


def fedsel(
    steps: int, *, bound: float = 0.5, votes: float = 0.1, kept: float = 0.5, votes_for: float = 0.1
) -> Plan:
    """FedSel: records vote for their largest coordinates, and the winners train (Liu 2020).

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


def dp_sat(steps: int, *, bound: float = 0.5) -> Plan:
    """DP-SAT: the gradient uphill along the last released one (Park et al. 2023)."""
    return one_phase(steps, bound, point=Sharpness())


def augmented(steps: int, *, bound: float = 0.5, count: int = 4, flip: bool = False) -> Plan:
    """Augmentation multiplicity: the mean gradient of a record's views (De et al. 2022).

    Args:
        count: the views of every record.
        flip: mirror them too: for photographs.
    """
    return one_phase(steps, bound, views=ShiftFlip(count=count, flip=flip))
