"""A public linear code: rows of D coordinates as K = ⌈D/n⌉ signed sums, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, Released, Space, State, register
from dpigu.mechanisms.public_random import public_generator
from dpigu.mechanisms.rows.coded_space import Coded, home_of
from dpigu.mechanisms.validate import require
from torch import Tensor
from torch.nn.functional import pad


def codes(block: int, size: int) -> int:
    """How many code coordinates a vector of `size` has: K = ⌈D/n⌉."""
    return -(-size // block)


@register("row", "encode")
@dataclass(frozen=True, kw_only=True)
class Encode:
    """Each record's gradient in a public code: signed sums of n random coordinates.

    z_k = (1/√n_k) Σ_{j ∈ block k} s_j g_j,  ‖z‖₂ ≤ ‖g‖₂

    The blocks are a random partition of the coordinates into K = ⌈D/n⌉, the last of n_K ≤ n; the
    signs s_j are random. Both come from the public seed and stay for the phase. The rows of the
    code are orthonormal, it costs O(D), and noise is drawn on K coordinates. A code that knows
    nothing of the gradients keeps 1/n of their energy, as of the noise's. `decode` leads back.

    Args:
        block: n, the number of coordinates in one sum.

    State: `order_D`, int64: the blocks, one after the other; `weight_D`, float64: s_j/√n_k in that
    order. No step changes them.

    Source: the sums of feature hashing, Weinberger et al. 2009 (arXiv 0902.2206), with blocks of
    equal size. Not the encoder of Nasr et al. 2020: docs/without-a-preset.md.
    Privacy: no bound of its own, the clipper bounds z; one record's row depends on its own
    gradient and on the public seed; checked by tests/mechanisms/rows/test_codes.py.
    """

    block: int = 2

    def __post_init__(self) -> None:
        require(self.block >= 1, self, "block", "at least 1")

    def output_space(self, space: Space) -> Space:
        return Coded(("code",), ((codes(self.block, space.size),),), space)

    def init(self, context: PhaseContext, reads: Reads) -> State:
        size, device = context.space.size, context.weights_D.device
        generator = public_generator("encode", context.seed)
        order_D = torch.randperm(size, generator=generator)
        sign_D = 1.0 - 2.0 * torch.randint(2, (size,), generator=generator, dtype=torch.float64)
        length_D = torch.full_like(sign_D, self.block)
        rest = (codes(self.block, size) - 1) * self.block
        length_D[rest:] = size - rest
        return {"order_D": order_D.to(device), "weight_D": (sign_D / length_D.sqrt()).to(device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def row(self, state: State, g_D: Tensor) -> Tensor:
        part_D = state["weight_D"].to(g_D.dtype) * g_D[state["order_D"]]
        short = -len(part_D) % self.block
        return pad(part_D, (0, short)).reshape(-1, self.block).sum(1)


@register("post", "decode")
@dataclass(frozen=True, kw_only=True)
class Decode:
    """The released code as a vector of D coordinates again, by the code's transpose.

    ĝ_j = s_j z̃_k/√n_k, its variance v_k/n_k; decode(encode(g)) is an orthogonal projection of g

    Args:
        reads: the code that it undoes, by name.

    Errors: `GrammarError` if no row map encoded.

    Source: the transpose of `encode`.
    Privacy: post-processing of the released vector; reads the public code; checked by
    tests/mechanisms/rows/test_codes.py.
    """

    reads: tuple[str, ...] = ("encode",)

    def __post_init__(self) -> None:
        require(len(self.reads) == 1, self, "reads", "the name of one code")

    def output_space(self, space: Space) -> Space:
        return home_of(space, self)

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        (name,) = self.reads
        encode, code = reads[name]
        weight_D, back_D = code["weight_D"], code["order_D"].argsort()

        def spread(x_K: Tensor) -> Tensor:
            return x_K.repeat_interleave(encode.block)[: len(weight_D)]

        value_D = weight_D * spread(released.value)
        variance_D = weight_D**2 * spread(released.variance)
        return released.derive(value_D[back_D], variance_D[back_D])
