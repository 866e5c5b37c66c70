"""Gradients in fewer dimensions: a subspace, low-rank carriers or a sketch.

Every noise multiplier is 1 until it is calibrated to a target (`Plan.scaled_noise`). `bound` is
the clipping norm C; `steps` counts all phases together, and all are charged.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dpigu.dpcore import Plan, Subspace
from dpigu.mechanisms.clippers import PerGroup
from dpigu.mechanisms.presets.preset import one_phase, preset, two_phases
from dpigu.mechanisms.rows import (
    Decode,
    Decompose,
    Encode,
    Lift,
    LowRank,
    LowRankRestorer,
    Project,
    ProjectReleased,
    Recompose,
)
from dpigu.mechanisms.subspaces import PublicSubspace, ReleasedSubspace


def after_plain(steps: int, bound: float, size: int, **slots: Any) -> Plan:
    """Three tenths of the steps as plain DP-SGD, whose releases make a subspace; then more."""
    subspace = {"subspace": ReleasedSubspace(size=size)}
    return two_phases(steps, bound, 0.3, ("plain", subspace), slots)


def decomposed(
    steps: int,
    bound: float,
    subspace: Subspace,
    size: int,
    weights: tuple[float, float],
    residual_scale: float,
) -> Plan:
    """One phase of gradients decomposed along a subspace: see `Decompose` for the last two."""
    return one_phase(
        steps,
        bound,
        subspace=subspace,
        rows=(Decompose(size=size, residual_scale=residual_scale),),
        clipper=PerGroup(groups="parameter", weights=weights, bound=bound),
        posts=(Recompose(),),
    )


@preset("pdp-sgd", source="after Zhou et al. 2021 (arXiv 2007.03813)")
def pdp_sgd(steps: int, *, bound: float = 0.5, size: int = 16) -> Plan:
    """PDP-SGD: drop the noise outside a subspace of released gradients.

    Args:
        size: K, the dimension of the subspace, learnt over the first three tenths of the steps.
    """
    return after_plain(steps, bound, size, posts=(ProjectReleased(),))


@preset(
    "pdp-sgd-public", source="Zhou et al. 2021 (arXiv 2007.03813), Algorithm 1", public="procedural"
)
def pdp_sgd_public(steps: int, *, bound: float = 0.5, size: int = 50) -> Plan:
    """PDP-SGD with the subspace of public gradients.

    Args:
        size: K, the dimension of the subspace of 100 public gradients, renewed at every step.
    """
    subspace = PublicSubspace(size=size, public_records=100, every=1)
    return one_phase(steps, bound, subspace=subspace, posts=(ProjectReleased(),))


@preset("pcdp-sgd", source="after Sha et al. 2023 (arXiv 2312.03792, withdrawn)")
def pcdp_sgd(steps: int, *, bound: float = 0.5, size: int = 16) -> Plan:
    """PCDP-SGD: project each record's gradient to a subspace before it is clipped."""
    return after_plain(steps, bound, size, rows=(Project(size=size),), posts=(Lift(),))


@preset("gep", source="Yu et al. 2021 (arXiv 2102.12677), the subspace of released gradients")
def gep(steps: int, *, bound: float = 0.5, size: int = 4, subspace: Subspace | None = None) -> Plan:
    """GEP: embedding in a subspace and residual, clipped apart and released together.

    The bounds of embedding and residual are as 5 to 2, and each has noise in proportion.

    Args:
        bound: √2 times that of the embedding.
        size: K, the dimension of the subspace.
        subspace: where it comes from: the released gradients unless another is given.
    """
    subspace = subspace if subspace is not None else ReleasedSubspace(size=size)
    return decomposed(steps, bound, subspace, size, (1.0, 1.0), 5.0 / 2.0)


@preset("gep-public", source="Yu et al. 2021 (arXiv 2102.12677), Algorithm 1", public="procedural")
def gep_public(steps: int, *, bound: float = 0.5, size: int = 18, groups: int = 3) -> Plan:
    """GEP with the subspaces of public gradients, one for each third of the parameters.

    Args:
        bound: √2 times that of the embedding.
        size: K, the dimension of all subspaces together.
        groups: of parameters, each with a subspace of its own.
    """
    subspace = PublicSubspace(size=size, groups=groups, every=1)
    return gep(steps, bound=bound, size=size, subspace=subspace)


@preset("dpdr", source="after Liu et al. 2024 (arXiv 2406.02744)")
def dpdr(steps: int, *, bound: float = 0.5) -> Plan:
    """DPDR: along the last released gradient, and orthogonal to it.

    Half of the steps are decomposed, and half are plain DP-SGD.
    """
    before = min(max(1, steps // 2), steps - 1)
    last = ReleasedSubspace(size=1, decay=0.0)
    (early,) = decomposed(before, bound, last, 1, (0.4, 1.0), 1.0).phases
    (main,) = one_phase(steps - before, bound).phases
    return Plan((dataclasses.replace(early, name="early"), main))


@preset("rgp", source="Yu et al. 2021 (arXiv 2106.09352)")
def rgp(steps: int, *, bound: float = 0.5, rank: int = 8) -> Plan:
    """RGP: gradients of low-rank carriers of every weight matrix.

    Args:
        rank: of the carriers.
    """
    rows, posts = (LowRank(rank=rank),), (LowRankRestorer(),)
    return one_phase(steps, bound, rows=rows, posts=posts)


@preset("random-sums", source="feature hashing, Weinberger et al. 2009 (arXiv 0902.2206)")
def random_sums(steps: int, *, bound: float = 0.5, block: int = 2) -> Plan:
    """Gradients as random signed sums, half as many as there are coordinates.

    Args:
        block: how many coordinates share one sum.
    """
    return one_phase(steps, bound, rows=(Encode(block=block),), posts=(Decode(),))
