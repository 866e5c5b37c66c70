"""Averages of the released weights: post-processing, and free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dpigu.names import AveragingName

PREFIX = "average"


class Average:
    """A running average of the weights, which stands in for them when they are looked at.

    ema: w̄ ← d·w̄ + (1 − d)·w with d = min(decay, (1 + k)/(10 + k)) after k steps
    tail: the mean of w over the last share · steps of the plan, rounded, and at least one

    Training itself continues with the weights as they are. With `none`, and before the tail
    begins, the average is the weights. Noise of single steps averages out; what is averaged was
    released, so nothing is charged.

    Args:
        kind: none, ema or tail.
        decay: of ema. share: of tail, in (0, 1].
        stored: what `state` gave, from a checkpoint, possibly among other tensors.

    Source: Polyak and Juditsky 1992 (tail); De et al. 2022 (arXiv 2204.13650), section 3.4, whose
    warm-up of the decay this is (ema).
    """

    def __init__(
        self,
        kind: AveragingName,
        decay: float,
        share: float,
        stored: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._kind, self._decay, self._share = kind, decay, share
        self._count = 0
        self._weights: dict[str, Tensor] = {}
        if stored and f"{PREFIX}/count" in stored:
            head = f"{PREFIX}/weights/"
            self._count = int(stored[f"{PREFIX}/count"])
            found = {n.removeprefix(head): t for n, t in stored.items() if n.startswith(head)}
            self._weights = {name: tensor.clone() for name, tensor in found.items()}

    def reset(self) -> None:
        """Forget everything, as where a phase starts from the initial weights."""
        self._count, self._weights = 0, {}

    @torch.no_grad()
    def see(self, parameters: Mapping[str, nn.Parameter], step: int, steps: int) -> None:
        """Take in the weights after a step (from 0) of so many of the plan."""
        tail = max(1, round(self._share * steps))
        if self._kind == "none" or (self._kind == "tail" and step < steps - tail):
            return
        if self._kind == "tail":
            keep = self._count / (1 + self._count)
        else:
            keep = min(self._decay, (1 + self._count) / (10 + self._count))
        for name, parameter in parameters.items():
            if name in self._weights:
                self._weights[name].lerp_(parameter.detach(), 1 - keep)
            else:
                self._weights[name] = parameter.detach().clone()
        self._count += 1

    @contextmanager
    def applied(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """The average in place of the weights, which come back afterwards."""
        before = {name: p.detach().clone() for name, p in parameters.items()}
        self.settle(parameters)
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data.copy_(before[name])

    def settle(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Put the average into the model for good, when training is over."""
        for name, average in self._weights.items():
            parameters[name].data.copy_(average)

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint must hold to continue, under names that no parameter has."""
        if not self._weights:
            return {}
        return {
            f"{PREFIX}/count": torch.tensor(self._count),
            **{f"{PREFIX}/weights/{name}": tensor for name, tensor in self._weights.items()},
        }
