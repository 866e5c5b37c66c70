"""A look at an update: its own sample, its own kernel, and a decision to keep or take back."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from dpcore import Binding, Clock, Context, Kernel, Look, NoiseSource, Reads, Rows
from trainers.engine import MaterialisingEngine, microbatches, norms_of
from trainers.setup import Setup


class Snapshot:
    """Weights and the optimizer's state before an update, to put back if it is refused."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
    ) -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self.weights = {name: p.detach().clone() for name, p in parameters.items()}
        self._state = copy.deepcopy(optimizer.state_dict())

    def put_back(self) -> None:
        """Make the update undone, momentum included."""
        for name, parameter in self._parameters.items():
            parameter.data.copy_(self.weights[name])
        self._optimizer.load_state_dict(self._state)


class RunningLook:
    """Looks at updates, each on a fresh sample at the look's own rate.

    Args:
        setup: the run.
        look: what is released of every record, and who decides.
        microbatch: how many records go through the model at a time.
        noise: where the kernel's normal draws come from.
    """

    def __init__(self, setup: Setup, look: Look, microbatch: int, noise: NoiseSource) -> None:
        statistic = look.pipeline.statistic
        assert statistic is not None
        self._setup, self._look, self._noise = setup, look, noise
        self._space = statistic.row_space(setup.space, setup.data.spec.shape)
        self._sampler = look.sampler(setup.sampler)
        self._microbatch = min(microbatch, math.ceil(self._sampler.expected_batch))

    def accepts(
        self,
        before: Mapping[str, Tensor],
        parameters: Mapping[str, nn.Parameter],
        clock: Clock,
        reads: Reads,
        x: Tensor,
        y: Tensor,
    ) -> bool:
        """Whether the update from `before` to the parameters is kept: one charged release."""
        setup = self._setup
        binding = Binding(self._look.pipeline, self._space, reads, setup.device)
        engine = MaterialisingEngine(
            setup.model, setup.loss, norms_of(binding), self._microbatch, setup.settings.precision
        )
        kernel = Kernel(
            binding,
            expected_batch=self._sampler.expected_batch,
            relative_error=engine.relative_error,
            noise=self._noise,
        )
        before_D = setup.space.join(before)
        states = binding.begin(Context(self._space, before_D, clock.steps, setup.settings.seed))
        frame = binding.open(states, clock)
        weights = {name: p.detach() for name, p in parameters.items()}

        def batch() -> Iterator[Rows]:
            indices = self._sampler.draw(len(x))
            for at, alive_B in microbatches(indices, self._microbatch, x.device):
                yield engine.rows(weights, x[at], y[at], alive_B, frame.transform)

        release, _ = kernel.release(states, frame, batch())
        return self._look.decision.accepts(release.gradient)
