"""Subspaces: K orthonormal directions of D, learnt from released or from public gradients."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from dpigu.dpcore import Clock, GrammarError, PhaseContext, Reads, Release, State, register
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.public_random import public_generator
from dpigu.mechanisms.validate import require
from torch import Tensor

FAINT = 1e-6
"""How strong, beside a new gradient, a direction is that no gradient has had a part in."""


def random_basis(context: PhaseContext, size: int, *parts: object) -> Tensor:
    """min(size, D) random orthonormal directions from the public seed: D × K, float64."""
    shape = (context.space.size, min(size, context.space.size))
    generator = public_generator(*parts, context.seed)
    draws_DK = torch.randn(shape, generator=generator, dtype=torch.float64)
    return _plain(torch.linalg.qr(draws_DK).Q.to(context.weights_D.device))


@register("subspace", "released-subspace")
@dataclass(frozen=True, kw_only=True)
class ReleasedSubspace:
    """The principal directions of the released gradients, old ones fading.

    basis: left singular vectors of [√γ·U·diag(s), ĝ], the K largest (U, s: those before);
    without the cut to K, those of Σ_t γ^(T−t) ĝ_t ĝ_tᵀ

    Noise alike in all coordinates moves no eigenvector of the mean, but a step of it drowns most
    gradients: many steps (γ near 1) find what they have in common. With K = 1 and γ = 0 the basis
    is the direction of the last released gradient. It starts at public random directions.

    It learns only where the release covers what is outside the subspace: in a phase of plain
    DP-SGD before one that projects, or beside the residual of `decompose`. What `project` and
    `lift` release lies in the subspace, and would never turn it.

    Args:
        size: K; min(K, D) directions are given.
        decay: γ, in [0, 1].

    State: `basis_DK`, and `strength_K`, the singular values s; both float64.

    Source: released gradients as the subspace: Liu et al. 2024 (arXiv 2406.02744), K = 1;
    the update of a truncated singular value decomposition: Levy and Lindenbaum 2000.
    Privacy: no bound needed; reads released gradients and the public seed only
    (post-processing); checked by tests/mechanisms/test_subspaces.py.
    """

    size: int = 16
    decay: float = 0.99

    def __post_init__(self) -> None:
        require(self.size >= 1, self, "size", "at least 1")
        require(0 <= self.decay <= 1, self, "decay", "a number in [0, 1]")

    def init(self, context: PhaseContext, reads: Reads) -> State:
        basis_DK = random_basis(context, self.size, "released-subspace")
        return {"basis_DK": basis_DK, "strength_K": basis_DK.new_zeros(basis_DK.shape[1])}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        g_D = release.gradient.value
        strength_K = self.decay**0.5 * state["strength_K"]
        faint = FAINT * torch.linalg.vector_norm(g_D) + 1e-100
        known_DK = state["basis_DK"] * strength_K.clamp(min=faint)
        all_DK = torch.cat([known_DK, g_D[:, None]], 1)
        finite = all_DK.isfinite().all()
        u_DK, s_K, _ = torch.linalg.svd(torch.where(finite, all_DK, 0), full_matrices=False)
        size = len(strength_K)
        return {
            "basis_DK": torch.where(finite, _plain(u_DK[:, :size]), state["basis_DK"]),
            "strength_K": torch.where(finite, s_K[:size], state["strength_K"]),
        }

    def basis(self, state: State) -> Tensor:
        return state["basis_DK"]


@register("subspace", "public-subspace")
@dataclass(frozen=True, kw_only=True)
class PublicSubspace:
    """The principal directions of public records' gradients, renewed every few steps.

    basis: the K eigenvectors of largest eigenvalue of M = (1/M) Σ_i ĝ_i ĝ_iᵀ, over M public records

    With groups, the coordinates are cut in order into G equal parts, and each has K/G of the
    directions to itself, those of its part's own moment (K_G ∝ √D_G, for parts alike).

    Public means that no privacy is at stake: another data set, given for the purpose. With
    fewer than K records, random directions make up the number. A refresh takes the weights of
    its step, and serves from the next on: stages learn after a release.

    Args:
        size: K; min(K, D) directions are given.
        groups: G, at most K and at most D.
        public_records: M, how many records' gradients are taken.
        every: steps from one refresh to the next.

    State: `basis_DK`, and `spare_DK`, the random directions; both float64.

    Errors: `GrammarError` if the run has no public records.

    Source: Zhou, Wu and Banerjee 2021 (arXiv 2007.03813), section 3.1: the top eigenspace of the
    second moment of public gradients; by groups Yu et al. 2021, GEP (arXiv 2102.12677).
    The code of both takes it at every step, at the step's own weights.
    Privacy: no bound needed; reads public gradients and the public seed only; checked by
    tests/mechanisms/test_subspaces.py.
    """

    size: int = 16
    groups: int = 1
    public_records: int = 128
    every: int = 10

    def __post_init__(self) -> None:
        require(self.size >= 1, self, "size", "at least 1")
        require(1 <= self.groups <= self.size, self, "groups", "from 1 to the size")
        require(self.public_records >= 1, self, "public_records", "at least 1")
        require(self.every >= 1, self, "every", "at least 1")

    def public_records_at(self, clock: Clock) -> int:
        """M at a refresh, none at the steps between."""
        return 0 if (clock.step + 1) % self.every else self.public_records

    def init(self, context: PhaseContext, reads: Reads) -> State:
        if context.public_MD is None:
            raise GrammarError(
                "there are no public gradients to learn from",
                where=name_of(self),
                remedy="Give the run public data, or take released-subspace.",
            )
        spare_DK = random_basis(context, self.size, "public-subspace")
        return {"basis_DK": self._principal(context.public_MD, spare_DK), "spare_DK": spare_DK}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        if release.public_MD is None or not self.public_records_at(release.clock):
            return state
        return {**state, "basis_DK": self._principal(release.public_MD, state["spare_DK"])}

    def basis(self, state: State) -> Tensor:
        return state["basis_DK"]

    def _principal(self, g_MD: Tensor, spare_DK: Tensor) -> Tensor:
        """The directions of every group, zero outside it."""
        basis_DK = torch.zeros_like(spare_DK)
        size, directions = spare_DK.shape
        for rows, columns in shares(size, directions, self.groups):
            basis_DK[rows, columns] = principal(g_MD[:, rows], spare_DK[rows, columns])
        return basis_DK


def shares(size: int, directions: int, groups: int) -> list[tuple[slice, slice]]:
    """What is each group's, cut in order: its directions, alike to within one, and its part of
    the coordinates, in proportion to them: so never fewer."""
    ends = [directions * g // groups for g in range(groups + 1)]
    cuts = [size * end // directions for end in ends]
    return [
        (slice(*rows), slice(*columns))
        for rows, columns in zip(pairwise(cuts), pairwise(ends), strict=True)
    ]


def principal(g_MD: Tensor, spare_DK: Tensor) -> Tensor:
    """The K directions that hold most of Σ_i ‖g_i‖²: D × K, orthonormal, strongest first.

    By the eigenvectors of the Gram matrix g gᵀ (M × M): no D × D matrix is formed. `spare_DK`
    (D × K) fills up where there are fewer than K rows.
    """
    g_MD = g_MD.to(torch.float64)
    size = spare_DK.shape[1]
    vectors_MM = torch.linalg.eigh(g_MD @ g_MD.T).eigenvectors
    found_DM = g_MD.T @ vectors_MM.flip(1)[:, :size]
    basis_DK = torch.linalg.qr(torch.cat([found_DM, spare_DK], 1)).Q[:, :size]
    return _plain(basis_DK)


def _plain(x_DK: Tensor) -> Tensor:
    """A copy that lies row by row in memory of its own, as it comes back from a checkpoint."""
    return x_DK.clone(memory_format=torch.contiguous_format)
