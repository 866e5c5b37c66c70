"""One released step of a run, in the hands of whoever trains with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from dpigu.dpcore import Release, RunError, Space
from dpigu.trainers.distributed import sharded_as
from torch import Tensor, nn

Update = Callable[[torch.optim.Optimizer | None], bool]
"""What a release does to the model, by an optimizer; False if it was taken back."""


class Step:
    """A step that was sampled, clipped, summed, noised and charged.

    Privacy: everything here was released, so whatever is computed from it and from public values
    costs nothing more.

    Args:
        number: of the whole run; the first is 1.
        rate: of the run, records a step: an epoch is 1/rate steps.
        phase: the name of its phase.
        release: what the kernel released.
        space: which coordinates of the release are which parameter's; None for a statistic,
            which is no gradient.
        parameters: what trains, by name.
        update: applies the release.
    """

    def __init__(
        self,
        number: int,
        rate: float,
        phase: str,
        release: Release,
        space: Space | None,
        parameters: Mapping[str, nn.Parameter],
        update: Update,
    ) -> None:
        self.number, self.phase, self._rate = number, phase, rate
        self._release: Release | None = release
        self._space, self._parameters = space, parameters
        self._update: Update | None = update

    @property
    def release(self) -> Release:
        """What the kernel released.

        Raises: RunError when the next step has begun: a long vector is not kept beside the next.
        """
        if self._release is None:
            raise RunError(
                "a step's release is let go when the next step begins",
                where=f"step {self.number}, phase {self.phase}",
                remedy="Read it within the loop, and keep `step.release` if you need it later.",
            )
        return self._release

    @property
    def ends_epoch(self) -> int | None:
        """The epoch that ends with this step, counted from 1; None for a step within one.

        Epoch e ends at step e/rate, rounded: the records of so many steps are, on average, as many
        as are declared. No step goes through the data: each samples from all of it.
        """
        epoch = max(1, round(self.number * self._rate))
        return epoch if round(epoch / self._rate) == self.number else None

    @property
    def gradients(self) -> dict[str, Tensor]:
        """The released gradient of every trained parameter, in its shape and type; fresh copies.

        g = (Σ clipped rows + noise) / expected batch, with what the pipeline's posts made of it;
        0 where the coordinate is frozen. It is sharded where the parameter is.

        Raises: RunError in a phase that releases a statistic.
        """
        if self._space is None:
            raise RunError(
                "this phase releases a statistic, and no gradients",
                where=f"step {self.number}, phase {self.phase}",
                remedy="Call `step.apply()`, which fits the model's buffers to it.",
            )
        split = self._space.split(self.release.gradient.value)
        return {
            n: sharded_as(split[n].to(p.dtype, copy=True), p) for n, p in self._parameters.items()
        }

    def apply(self, optimizer: torch.optim.Optimizer | None = None) -> bool:
        """Move the model by the release; False if a look at the update took it back.

        A gradient is a step of the optimizer that leaves frozen weights alone; a statistic sets
        the buffers that it is fitted to. A look at the update was paid for with the step.

        Args:
            optimizer: None takes the session's. Another becomes the session's: its state is kept
                in the checkpoint, and comes back when the run is resumed.

        Raises: RunError for a second time, or when the next step has begun.
        """
        if self._update is None:
            raise RunError(
                "a step is applied once, before the next one begins",
                where=f"step {self.number}, phase {self.phase}",
                remedy="Use `step.gradients` for other updates of your own.",
            )
        update, self._update = self._update, None
        return update(optimizer)

    def close(self) -> None:
        """The step is over: it is applied no more, and its release is let go."""
        self._update = self._release = None
