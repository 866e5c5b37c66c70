"""The optimizer that a run steps with, whoever made it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from dpigu.dpcore import ConfigurationError, RunError
from dpigu.trainers.distributed import own, sharded_as
from dpigu.trainers.optim.matrices import Muon, Shampoo
from torch import nn


class HeldOptimizer:
    """An optimizer whose state belongs to the run: checkpoints hold it, phases may start it anew.

    Args:
        given: makes the optimizer from the trainable parameters, or is the user's own.
        model: whose parameters it steps.

    Errors: `ConfigurationError` for an optimizer of other parameters than the model's.
    """

    def __init__(
        self,
        given: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | torch.optim.Optimizer,
        model: nn.Module,
    ) -> None:
        self._model = model
        self._make = None if isinstance(given, torch.optim.Optimizer) else given
        self._stored: Mapping[str, Any] | None = None
        self._now = self._made() if self._make is not None else self._known(given)
        _refuse_parts_of_matrices(self._now)
        self._fresh = copy.deepcopy(self._now.state_dict()["state"])

    @property
    def now(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self._now

    @property
    def made_here(self) -> bool:
        """Whether the run made it; its learning rate is then the run's to set."""
        return self._make is not None

    def use(self, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
        """The optimizer, with its stored state if it has just been resumed; another replaces it.

        Raises: RunError if the stored state is that of another kind of optimizer.
        """
        if optimizer is not None and optimizer is not self._now:
            self._now, self._make = self._known(optimizer), None
            _refuse_parts_of_matrices(optimizer)
            self._fresh = copy.deepcopy(optimizer.state_dict()["state"])
        if self._stored is not None:
            self._load(self._stored)
            self._stored = None
        return self._now

    def restart(self) -> None:
        """As it was before the first step, but for the learning rates of a user's own."""
        self._stored = None
        if self._make is not None:
            self._now = self._made()
        else:
            self._put(self._fresh)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: its kind, and what torch's `state_dict` says."""
        if self._stored is not None:
            return dict(self._stored)
        return {"name": _name(self._now), **self._now.state_dict()}

    def resume(self, stored: Mapping[str, Any]) -> None:
        """Take up a state from a checkpoint, at the first use."""
        self._stored = stored if stored["state"] else None

    def _load(self, stored: Mapping[str, Any]) -> None:
        if stored["name"] not in (None, _name(self._now)):
            raise RunError(
                "the checkpoint holds the state of another optimizer",
                where="optimizer",
                got=_name(self._now),
                expected=stored["name"],
                remedy="Go on with the optimizer that the run had.",
            )
        self._put(stored["state"])

    def _put(self, state: Mapping[int, Any]) -> None:
        groups = self._now.state_dict()["param_groups"]
        stepped = [p for group in self._now.param_groups for p in group["params"]]
        there = {
            i: {key: _beside(stepped[i], copy.deepcopy(value)) for key, value in entry.items()}
            for i, entry in state.items()
        }
        self._now.load_state_dict({"state": there, "param_groups": groups})

    def _made(self) -> torch.optim.Optimizer:
        assert self._make is not None
        return self._make([p for p in self._model.parameters() if p.requires_grad])

    def _known(self, given: object) -> torch.optim.Optimizer:
        """The user's own optimizer, if it steps parameters of the model and no others."""
        assert isinstance(given, torch.optim.Optimizer)
        ours = {id(p) for p in self._model.parameters()}
        if any(id(p) not in ours for group in given.param_groups for p in group["params"]):
            raise ConfigurationError(
                "the optimizer steps parameters that are not the model's",
                where=_name(given),
                remedy="Make it from `model.parameters()` of the model that is trained.",
            )
        return given


def _refuse_parts_of_matrices(optimizer: torch.optim.Optimizer) -> None:
    """An error for an optimizer that wants matrices whole, of parameters that are sharded."""
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    wants = isinstance(optimizer, Muon | Shampoo | torch.optim.Muon)
    if wants and any(own(p) is not p for p in stepped):
        raise ConfigurationError(
            "the optimizer steps along whole matrices, and each rank has a part of them",
            where=_name(optimizer),
            remedy="Take sgd, adam or adam-bc, or a model that is not sharded.",
        )


def _beside(parameter: nn.Parameter, value: Any) -> Any:
    """An entry of a parameter's state, sharded as the parameter is if it has its shape."""
    alike = torch.is_tensor(value) and value.shape == parameter.shape
    return sharded_as(value, parameter) if alike else value


def _name(optimizer: torch.optim.Optimizer) -> str:
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
