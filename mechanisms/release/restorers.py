"""Post maps that undo a row map on the released vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import AffineRowMap, GrammarError, Reads, Released, Space, State, register
from dpigu.dpcore.devices import pieces, unwritten
from dpigu.dpcore.grammar.stages import name_of
from torch import Tensor


@register("post", "affine-restorer")
@dataclass(frozen=True, kw_only=True)
class AffineRestorer:
    """The inverse of the affine row map that it names.

    ĝ = (released + shift) / weight, its variance / weight²; 0 where the weight is 0

    With several affine row maps, restore in the reverse order.

    Args:
        of: the standardizer, by slot or by name.

    Errors: `GrammarError` if that stage is not affine.

    Source: arXiv 2507.06525, Algorithm 2, line 13.
    Privacy: post-processing of the released vector; reads the named stage's released state;
    the inverse law is checked by tests/mechanisms/rows/test_standardizers.py.
    """

    of: str = "group-standardizer"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.of,)

    def output_space(self, space: Space) -> Space:
        return space

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        stage, standardizer_state = reads[self.of]
        if not isinstance(stage, AffineRowMap):
            raise GrammarError(
                "only an affine row map can be restored",
                where=f"{name_of(self)}.of",
                got=name_of(stage),
                expected="a standardizer",
            )
        weight_D, shift_D = stage.affine(standardizer_state)
        value_D = unwritten(len(released.value), released.value.device)
        for here in pieces(len(value_D), value_D.device):
            moved_P = released.value[here]
            if shift_D is not None:
                moved_P = moved_P + shift_D[here]
            torch.mul(moved_P, _inverse(weight_D[here]), out=value_D[here])
        return released.derive(
            value_D,
            lambda here: released.variance_at(here) * _inverse(weight_D[here]).square_(),
        )


def _inverse(weight_P: Tensor) -> Tensor:
    """1/weight, and 0 where the weight is 0."""
    inverse_P = weight_P.reciprocal()
    return inverse_P.masked_fill_(weight_P == 0, 0.0)
