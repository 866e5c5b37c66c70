"""Optimizers that use what is public about the noise; post-processing, like every optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from dpigu.trainers.optim.base import NoiseInformed
from dpigu.trainers.optim.matrices import Muon, Shampoo
from torch import Tensor, nn

from dpigu.names import OptimizerName


class AdamBC(NoiseInformed):
    """Adam whose second moment is that of the gradient without its noise.

    θ ← θ − η · m̂ / (√max(v̂ − n̂, φ·n̂) + 1e-8),  m̂, v̂, n̂ = moving means of ĝ, ĝ², noise variance

    Adam divides by √v̂, which under DP is nearly the noise's deviation alone: the same for every
    coordinate, so that Adam is SGD with a learning rate of η/noise. n̂ is known, and is taken
    off; what is left says how sure each coordinate's gradient is. The estimate v̂ − n̂ has a
    standard error of about √(1 − β₂)·n̂, hence the floor. Without noise this is Adam.

    Args:
        parameters: as for any optimizer of torch.
        lr: η. betas: β₁, β₂, the memory of the moving means, each corrected for its start at 0.
        floor: φ, the least second moment in units of the noise variance, above 0; a step is at
            most η·m̂/√(φ·n̂). The paper's γ′ in the place of φ·n̂ is a constant,
            tuned, and there is no 1e-8 outside the root.
        weight_decay: times θ, added to the gradient.

    Errors: `RunError` for a step without `know_noise`.

    Source: Tang, Shpilevskiy and Lécuyer 2023, "DP-AdamBC" (arXiv 2312.14334), Algorithm 1,
    with n̂ a moving mean so that the noise may change from step to step.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        floor: float = 0.1,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "betas": betas, "floor": floor, "weight_decay": weight_decay}
        super().__init__(parameters, options)

    def move(self, parameter: nn.Parameter, gradient: Tensor, group: Mapping[str, Any]) -> None:
        variance, state = self.variance(parameter), self.state[parameter]
        if not state:
            state["step"] = 0
            for key in ("exp_avg", "exp_avg_sq", "variance_avg"):
                state[key] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].lerp_(gradient**2, 1 - second)
        state["variance_avg"].lerp_(variance, 1 - second)
        mean = state["exp_avg"] / (1 - first ** state["step"])
        square = state["exp_avg_sq"] / (1 - second ** state["step"])
        noise = state["variance_avg"] / (1 - second ** state["step"])
        scale = torch.maximum(square - noise, group["floor"] * noise).clamp(min=0).sqrt()
        parameter.sub_(group["lr"] * mean / (scale + 1e-8))


OPTIMIZERS: Mapping[OptimizerName, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adam-bc": AdamBC,
    "muon": Muon,
    "shampoo": Shampoo,
}
"""The optimizers by name."""
