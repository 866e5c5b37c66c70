"""GeoClip: rows are clipped, and noised, in the basis of what was released."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from dpigu.dpcore import (
    GrammarError,
    PhaseContext,
    Reads,
    Release,
    Released,
    Space,
    State,
    register,
)
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.rows.coded_space import Coded, home_of
from dpigu.mechanisms.validate import require
from torch import Tensor

LARGEST = 4096
"""Coordinates; beyond, the covariance alone takes more than 128 MB, and a step a minute."""
FARTHEST = 1e100
"""The longest residual; the square of a longer one may not be a number."""


@register("row", "geo-clip")
@dataclass(frozen=True, kw_only=True)
class GeoClip:
    """Centres a row, turns it into the principal axes of past releases, and scales each.

    z = Λ^−¼ Uᵀ (g − a)·(γ/Σ_j λ_j^½)^½, with Σ = U Λ Uᵀ, λ in [h₁, h₂];  noise comes back as M⁻¹

    a ← β₁·a + (1 − β₁)·ĝ,  Σ ← β₂·Σ + (1 − β₂)·(ĝ − a)(ĝ − a)ᵀ, with the old a

    If Σ is the covariance of a row, E‖z‖² = γ, and no other invertible map with that has less
    noise energy; on diagonal Σ it is AdaCliP. Here as there Σ is that of released means with
    their noise, and what a row is long by is up to B: C and γ play one part. The covariance is
    D × D and its axes cost D³ operations every `refresh` steps: for small models. Put
    `geo-restorer` into the posts. Beside a mask, rows mix coordinates: noise is drawn in all D
    directions, and what falls on frozen ones is dropped.

    Args:
        mean_decay, decay: β₁ and β₂, in [0, 1).
        expected: γ, above 0. least, most: h₁ and h₂, in the unit of ĝ²; 0 < h₁ < h₂.
        refresh: steps between new axes.

    State: `mean_D` (a), `covariance_DD` (Σ, which starts at I), `axes_DD` (U), `scales_D` (the
    diagonal that follows Uᵀ), float64.

    Errors: `GrammarError` for more than 4,096 coordinates.

    Source: Gilani, Tasnim, Sankar and Kosut 2025, GeoClip (arXiv 2506.06549), and the constants
    of the authors' code.
    Privacy: no bound of its own, the clipper bounds z; one record's row depends on its own
    gradient and on released ones; checked by tests/mechanisms/rows/test_geo_clip.py.
    """

    mean_decay: float = 0.99
    decay: float = 0.999
    expected: float = 1.0
    least: float = 1e-15
    most: float = 10.0
    refresh: int = 1

    def __post_init__(self) -> None:
        require(0 <= self.mean_decay < 1, self, "mean_decay", "a decay in [0, 1)")
        require(0 <= self.decay < 1, self, "decay", "a decay in [0, 1)")
        require(0 < self.expected < math.inf, self, "expected", "a finite number above 0")
        require(0 < self.least < math.inf, self, "least", "a finite number above 0")
        require(self.least < self.most < math.inf, self, "most", f"above {self.least:g}, finite")
        require(self.refresh >= 1, self, "refresh", "at least 1")

    def output_space(self, space: Space) -> Space:
        return Coded(("axes",), ((space.size,),), space)

    def init(self, context: PhaseContext, reads: Reads) -> State:
        size = context.space.size
        if size > LARGEST:
            raise GrammarError(
                "a covariance of so many coordinates is too large",
                where=name_of(self),
                got=size,
                expected=f"at most {LARGEST}",
                remedy="Train fewer weights, or take "
                "group-standardizer or adaclip, which keep a diagonal.",
            )
        zeros_D = context.zeros()
        identity_DD = torch.diag(torch.ones_like(zeros_D))
        return {
            "mean_D": zeros_D,
            "covariance_DD": identity_DD,
            "axes_DD": identity_DD,
            "scales_D": self._scales(torch.ones_like(zeros_D)),
        }

    def update(self, state: State, release: Release, reads: Reads) -> State:
        mean_D, live_D = state["mean_D"], release.support_D
        residual_D = torch.where(live_D, release.gradient.value - mean_D, 0.0)
        residual_D = residual_D.nan_to_num(0.0).clamp(-FARTHEST, FARTHEST)
        new_DD = torch.outer(residual_D, residual_D)
        covariance_DD = self.decay * state["covariance_DD"] + (1 - self.decay) * new_DD
        axes_DD, scales_D = state["axes_DD"], state["scales_D"]
        if (release.clock.step + 1) % self.refresh == 0:
            known_DD = covariance_DD.nan_to_num(0.0).clamp(-(FARTHEST**2), FARTHEST**2)
            values_D, axes_DD = torch.linalg.eigh(known_DD)
            scales_D = self._scales(values_D)
        return {
            "mean_D": mean_D + (1 - self.mean_decay) * residual_D,
            "covariance_DD": covariance_DD,
            "axes_DD": axes_DD,
            "scales_D": scales_D,
        }

    def row(self, state: State, g_D: Tensor) -> Tensor:
        mean_D, axes_DD, scales_D = (
            state[key].to(g_D.dtype) for key in ("mean_D", "axes_DD", "scales_D")
        )
        return scales_D * ((g_D - mean_D) @ axes_DD)

    def _scales(self, values_D: Tensor) -> Tensor:
        root_D = values_D.clamp(self.least, self.most).sqrt()
        return (self.expected / root_D.sum() / root_D).sqrt()


@register("post", "geo-restorer")
@dataclass(frozen=True, kw_only=True)
class GeoRestorer:
    """Released rows of `geo-clip`, in the parameters' coordinates again.

    ĝ = U (z̃/s) + a, its variance (U ∘ U)(v/s²); restoring what `geo-clip` made of g gives g

    Args:
        reads: the row map that it undoes, by name.

    Errors: `GrammarError` if no row map turned the rows.

    Source: Gilani, Tasnim, Sankar and Kosut 2025, GeoClip (arXiv 2506.06549).
    Privacy: post-processing of the released vector; reads that map's released state; checked by
    tests/mechanisms/rows/test_geo_clip.py.
    """

    reads: tuple[str, ...] = ("geo-clip",)

    def __post_init__(self) -> None:
        require(len(self.reads) == 1, self, "reads", "the name of one row map")

    def output_space(self, space: Space) -> Space:
        return home_of(space, self)

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        turned = reads[self.reads[0]].state
        axes_DD, scales_D = turned["axes_DD"], turned["scales_D"]
        still_D = scales_D == 0
        by_D = scales_D.masked_fill(still_D, 1.0)
        return released.derive(
            axes_DD @ (released.value / by_D).masked_fill(still_D, 0.0) + turned["mean_D"],
            axes_DD**2 @ (released.variance / by_D**2).masked_fill(still_D, 0.0),
        )
