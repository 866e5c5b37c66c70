"""Optimizers that move one parameter at a time, and those that know the noise in its gradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from dpigu.dpcore import RunError
from torch import Tensor, nn


class ParameterWise(torch.optim.Optimizer):
    """An optimizer whose step is one move of each parameter; its groups have a `weight_decay`."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure: a loss would be private
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = parameter.grad + group["weight_decay"] * parameter
                    self.move(parameter, gradient, group)

    @abstractmethod
    def move(self, parameter: nn.Parameter, gradient: Tensor, group: Mapping[str, Any]) -> None:
        """Move a parameter by its gradient, to which the decay of weights has been added."""


@runtime_checkable
class NoiseAware(Protocol):
    """An optimizer that is told the variance of the noise in each gradient before its step."""

    def know_noise(self, variances: Mapping[nn.Parameter, Tensor]) -> None:
        """The known variance of each parameter's gradient, in its shape."""
        ...


class NoiseInformed(ParameterWise):
    """A `NoiseAware` optimizer, which forgets the variances after each step."""

    def __init__(self, parameters: Iterable[nn.Parameter], defaults: dict[str, Any]) -> None:
        super().__init__(parameters, defaults)
        self._variances: Mapping[nn.Parameter, Tensor] = {}

    def know_noise(self, variances: Mapping[nn.Parameter, Tensor]) -> None:
        self._variances = dict(variances)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as above
        super().step(closure)
        self._variances = {}

    def variance(self, parameter: nn.Parameter) -> Tensor:
        """The variance of the noise in a parameter's gradient, in its shape and dtype.

        Errors: `RunError` if `know_noise` has not been called since the last step.
        """
        if parameter not in self._variances:
            raise RunError(
                "the variance of the noise is not known",
                where=type(self).__name__,
                remedy="Call know_noise before each step, as masked_step does.",
            )
        return self._variances[parameter].to(parameter.dtype)
