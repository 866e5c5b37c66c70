"""What the tests of linear post maps share: the matrix of a map, and random orthonormal bases."""

from __future__ import annotations

import torch
from dpigu.dpcore import Reads
from dpigu.dpcore.grammar.values import View
from torch import Tensor

from tests.support.laws.stage_steps import minted, normal


def applied(post, reads: Reads, value_K: Tensor, variance_K: Tensor | None = None):
    """What a post map makes of these values."""
    if variance_K is None:
        variance_K = torch.zeros_like(value_K)
    return post.apply({}, minted().derive(value_K.double(), variance_K.double()), reads)


def matrix_of(post, reads: Reads, size: int) -> Tensor:
    """The matrix A of a linear post map y ↦ A y, column by column."""
    columns = [applied(post, reads, e_K).value for e_K in torch.eye(size, dtype=torch.float64)]
    return torch.stack(columns, dim=1)


def true_variance(post, reads: Reads, variance_K: Tensor) -> Tensor:
    """The variance of A y for independent y_j of these variances: (A ∘ A) v."""
    return matrix_of(post, reads, len(variance_K)) ** 2 @ variance_K


def orthonormal(size: int, columns: int, seed: int) -> Tensor:
    """A random basis: size × min(columns, size)."""
    return torch.linalg.qr(normal(size, min(columns, size), seed=seed)).Q.contiguous()


def subspace_reads(subspace, basis_DK: Tensor, name: str = "subspace") -> Reads:
    """A subspace stage whose basis is this one, under a name."""
    return {name: View(subspace, {"basis_DK": basis_DK})}
