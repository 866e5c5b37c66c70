"""Views of a record: augmentation whose gradients are averaged before the clipper."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import GrammarError, register
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("views", "shift-flip")
@dataclass(frozen=True, kw_only=True)
class ShiftFlip:
    """Views of an image, shifted by up to some pixels, and mirrored if asked for.

    g = (1/V) Σ_v ∇ℓ(θ, view_v(x))

    Each view is shifted by whole pixels, uniform in [−shift, shift] in both directions, its edge
    repeated; with `flip`, it is mirrored left to right with probability ½.

    Args:
        count: V, the number of views of every record.
        shift: the largest shift, in pixels.
        flip: whether to mirror too: for photographs, not for digits.

    Source: augmentation multiplicity, De et al., arXiv 2204.13650, section 3.2.
    Errors: `GrammarError` for records that are no images.
    Privacy: one record's views are its own, and their mean gradient is clipped as one row, so the
    bound and the event stay what they were. The draws are no secret; checked by
    tests/mechanisms/test_views.py.
    """

    count: int = 4
    shift: int = 1
    flip: bool = False

    def __post_init__(self) -> None:
        require(self.count >= 1, self, "count", "at least 1")
        require(self.shift >= 0, self, "shift", "at least 0")

    def views(self, x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise GrammarError(
                "only images can be shifted",
                where=name_of(self),
                got=f"a record of shape {tuple(x.shape)}",
                expected="(…, height, width)",
            )
        height, width = x.shape[-2:]
        rows_VH = self._shifted(height, x.device)
        columns_VW = self._shifted(width, x.device)
        if self.flip:
            mirrored = torch.rand((self.count, 1), device=x.device) < 0.5
            columns_VW = torch.where(mirrored, columns_VW.flip(1), columns_VW)
        at_VHW = rows_VH[:, :, None] * width + columns_VW[:, None, :]
        return x.flatten(-2)[..., at_VHW].movedim(-3, 0)

    def _shifted(self, size: int, device: torch.device) -> Tensor:
        """For every view, the pixels that its pixels come from along one side."""
        reach = (self.count, 1)
        by_V = torch.randint(-self.shift, self.shift + 1, reach, device=device)
        return (torch.arange(size, device=device) + by_V).clamp(0, size - 1)
