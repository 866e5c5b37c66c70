"""Projections: rows, or what was released, reduced to a subspace; and the ways back."""

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
    Subspace,
    register,
)
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.rows.coded_space import Coded, home_of
from dpigu.mechanisms.validate import require
from torch import Tensor


def basis_in(stage: object, reads: Reads, name: str) -> Tensor:
    """The basis of the subspace of that name, D × K, float64; a `GrammarError` if it is none."""
    subspace, state = reads[name]
    if not isinstance(subspace, Subspace):
        raise GrammarError(
            "this stage has no basis",
            where=f"{name_of(stage)}.reads",
            got=name_of(subspace),
            expected="a subspace, such as released-subspace",
        )
    return subspace.basis(state).to(torch.float64)


def _follow(stage: Project | Decompose, context: PhaseContext, reads: Reads) -> State:
    """The basis at the start of a phase, which must be of the shape that the row map declares."""
    basis_DK = basis_in(stage, reads, *stage.reads)
    if basis_DK.shape[0] != context.space.size:
        raise GrammarError(
            "the subspace is of another space than the rows",
            where=name_of(stage),
            got=f"rows of {context.space.size} coordinates",
            expected=f"{basis_DK.shape[0]}, those of the parameters",
            remedy="Put it before row maps that change the space.",
        )
    if basis_DK.shape[1] != min(stage.size, context.space.size):
        raise GrammarError(
            "the subspace has another number of directions than this row map",
            where=f"{name_of(stage)}.size",
            got=stage.size,
            expected=basis_DK.shape[1],
            remedy="Give both the same size.",
        )
    return {"basis_DK": basis_DK}


def _check_options(stage: Project | Decompose) -> None:
    require(stage.size >= 1, stage, "size", "at least 1")
    require(len(stage.reads) == 1, stage, "reads", "the name of one subspace")


@register("row", "project")
@dataclass(frozen=True, kw_only=True)
class Project:
    """Each record's gradient in the coordinates of a subspace, before it is clipped.

    z = Vᵀ g,  ‖z‖₂ ≤ ‖g‖₂

    What lies outside the subspace takes no part of the clipping bound, and noise is drawn on K
    coordinates in place of D. `lift` leads back.

    Args:
        size: K, that of the subspace; min(K, D) coordinates are given.
        reads: the one subspace, by slot or by name, of this or an earlier phase.

    State: `basis_DK`, V, float64, as the subspace gives it.

    Errors: `GrammarError` for a stage that is no subspace, or one of another size.

    Source: Sha et al. 2023, PCDP-SGD (arXiv 2312.03792, withdrawn by its authors): projection
    before clipping.
    Privacy: no bound of its own, the clipper bounds z; one record's row depends on its own
    gradient and on a basis from released or public gradients; checked by
    tests/mechanisms/rows/test_projections.py.
    """

    size: int = 16
    reads: tuple[str, ...] = ("subspace",)

    def __post_init__(self) -> None:
        _check_options(self)

    def output_space(self, space: Space) -> Space:
        return Coded(("projected",), ((min(self.size, space.size),),), space)

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return _follow(self, context, reads)

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"basis_DK": basis_in(self, reads, *self.reads)}

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D @ state["basis_DK"].to(g_D.dtype)


@register("post", "lift")
@dataclass(frozen=True, kw_only=True)
class Lift:
    """What was released in a subspace, as a vector of D coordinates again.

    ĝ = V z̃, its variance (V ∘ V) v; lift(project(g)) is the orthogonal projection of g

    Args:
        reads: the projection that it undoes, by name.

    Errors: `GrammarError` if no row map projected.

    Source: Sha et al. 2023, PCDP-SGD (arXiv 2312.03792, withdrawn by its authors).
    Privacy: post-processing of the released vector; reads the projection's released state;
    checked by tests/mechanisms/rows/test_projections.py.
    """

    reads: tuple[str, ...] = ("project",)

    def __post_init__(self) -> None:
        require(len(self.reads) == 1, self, "reads", "the name of one projection")

    def output_space(self, space: Space) -> Space:
        return home_of(space, self)

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        (name,) = self.reads
        basis_DK = reads[name].state["basis_DK"]
        return released.derive(basis_DK @ released.value, basis_DK**2 @ released.variance)


@register("post", "project-released")
@dataclass(frozen=True, kw_only=True)
class ProjectReleased:
    """The released gradient, projected to a subspace: the noise outside is dropped.

    ĝ = V Vᵀ g̃, its variance the diagonal of P diag(v) P, P = V Vᵀ

    With noise alike in all coordinates ĝ has the distribution of V(Vᵀ Σ clip(g_i) + noise in K
    coordinates): what sets it apart from `project` and `lift` is that the clipper sees the whole
    gradient. Every engine serves it, the fast one too.

    Args:
        reads: the one subspace, by slot or by name, of this or an earlier phase.

    Source: Zhou, Wu and Banerjee 2021, PDP-SGD (arXiv 2007.03813), Algorithm 1.
    Privacy: post-processing of the released vector; reads a basis from released or public
    gradients; checked by tests/mechanisms/rows/test_projections.py.
    """

    reads: tuple[str, ...] = ("subspace",)

    def __post_init__(self) -> None:
        require(len(self.reads) == 1, self, "reads", "the name of one subspace")

    def output_space(self, space: Space) -> Space:
        return space

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        basis_DK = basis_in(self, reads, *self.reads)
        spread_KK = (basis_DK.T * released.variance) @ basis_DK
        variance_D = ((basis_DK @ spread_KK) * basis_DK).sum(1).clamp(min=0)
        return released.derive(basis_DK @ (basis_DK.T @ released.value), variance_D)


@register("row", "decompose")
@dataclass(frozen=True, kw_only=True)
class Decompose:
    """Each record's gradient as its part in a subspace and the rest: two blocks of one row.

    z = (Vᵀ g, λ·(g − V Vᵀ g)): K + D coordinates, blocks `embedding` and `residual`

    With bounds C₁ on Vᵀg and C₂ on the residual, the clipper is
    per-group(groups="parameter", weights=(C₁, λ·C₂), bound=√(C₁² + λ²C₂²)). The noise is that of
    the joint bound in all K + D coordinates; λ > 1 makes it λ times smaller on the residual,
    against which the bound grows. λ = C₁/C₂ gives each block noise in proportion to its own bound.
    `recompose` leads back.

    Args:
        size: K, that of the subspace; min(K, D) coordinates are given.
        residual_scale: λ, finite and above 0.
        reads: the one subspace, by slot or by name, of this or an earlier phase.

    State: `basis_DK`, V, float64, as the subspace gives it.

    Errors: `GrammarError` for a stage that is no subspace, or one of another size.

    Source: Yu et al. 2021, GEP (arXiv 2102.12677), Algorithm 1, the subspace from public
    gradients; with K = 1 and the last released gradient: Liu et al. 2024, DPDR
    (arXiv 2406.02744).
    Privacy: no bound of its own, the clipper bounds both blocks jointly; one record's row depends
    on its own gradient and on a basis from released or public gradients; checked by
    tests/mechanisms/rows/test_projections.py.
    """

    size: int = 16
    residual_scale: float = 1.0
    reads: tuple[str, ...] = ("subspace",)

    def __post_init__(self) -> None:
        _check_options(self)
        above = 0 < self.residual_scale < math.inf
        require(above, self, "residual_scale", "a finite number above 0")

    def output_space(self, space: Space) -> Space:
        shapes = ((min(self.size, space.size),), (space.size,))
        return Coded(("embedding", "residual"), shapes, space)

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return _follow(self, context, reads)

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"basis_DK": basis_in(self, reads, *self.reads)}

    def row(self, state: State, g_D: Tensor) -> Tensor:
        basis_DK = state["basis_DK"].to(g_D.dtype)
        embedding_K = g_D @ basis_DK
        residual_D = g_D - embedding_K @ basis_DK.T
        return torch.cat([embedding_K, self.residual_scale * residual_D])


@register("post", "recompose")
@dataclass(frozen=True, kw_only=True)
class Recompose:
    """Embedding and residual, added up again.

    ĝ = V z̃₁ + z̃₂/λ, its variance (V ∘ V) v₁ + v₂/λ²; recompose(decompose(g)) = g

    Args:
        reads: the decomposition that it undoes, by name.

    Errors: `GrammarError` if no row map decomposed.

    Source: Yu et al. 2021, GEP (arXiv 2102.12677), Algorithm 1.
    Privacy: post-processing of the released vector; reads the decomposition's released state;
    checked by tests/mechanisms/rows/test_projections.py.
    """

    reads: tuple[str, ...] = ("decompose",)

    def __post_init__(self) -> None:
        require(len(self.reads) == 1, self, "reads", "the name of one decomposition")

    def output_space(self, space: Space) -> Space:
        return home_of(space, self)

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        (name,) = self.reads
        decompose, decomposed = reads[name]
        basis_DK, scale = decomposed["basis_DK"], decompose.residual_scale
        size = basis_DK.shape[1]
        value, variance = released.value, released.variance
        return released.derive(
            basis_DK @ value[:size] + value[size:] / scale,
            basis_DK**2 @ variance[:size] + variance[size:] / scale**2,
        )
