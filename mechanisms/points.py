"""Points: where the gradient is taken, if not at the weights themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.dpcore import State, register
from torch import Tensor


@register("point", "masked-weights")
@dataclass(frozen=True, kw_only=True)
class MaskedWeights:
    """The gradient of the pruned model: frozen weights count as 0.

    g = ∇ℓ(m ⊙ θ, x), with m the support

    Source: arXiv 2507.06525, Algorithm 2, line 8 (section 5 masks only the gradient).
    Privacy: computed from released weights and the public support; checked by
    tests/mechanisms/test_presets.py.
    """

    def at(self, state: State, weights_D: Tensor, support_D: Tensor) -> Tensor:
        return torch.where(support_D, weights_D, 0)
