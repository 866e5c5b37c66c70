"""Post maps that undo a row map on the released vector."""

from __future__ import annotations

from dataclasses import dataclass

from dpigu.dpcore import AffineRowMap, GrammarError, Reads, Released, Space, State, register
from dpigu.dpcore.grammar.stages import name_of


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
        moved_D = released.value if shift_D is None else released.value + shift_D
        zero_D = weight_D == 0
        by_D = weight_D.masked_fill(zero_D, 1.0)
        value_D = (moved_D / by_D).masked_fill_(zero_D, 0.0)
        variance_D = (released.variance / by_D.square_()).masked_fill_(zero_D, 0.0)
        return released.derive(value_D, variance_D)
