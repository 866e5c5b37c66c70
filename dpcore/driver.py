"""The driver of a kernel's steps: open one, form its rows, release, next states.

Training, selective updates, the mechanism audit and conformance all step through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from dpigu.dpcore.grammar.bound_pipeline import BoundPipeline, States, StepContext
from dpigu.dpcore.grammar.values import Clock, Release
from dpigu.dpcore.kernel import Kernel
from dpigu.dpcore.noise import NoiseSource
from dpigu.dpcore.ranks import ALONE, Ranks
from dpigu.dpcore.rows import DenseRows, Rows
from torch import Tensor


class Releaser(Protocol):
    """What releases a step: `Kernel`, or whatever else is to be audited."""

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        """See `Kernel.release`."""
        ...


class MakeReleaser(Protocol):
    """Makes the releaser of a phase: `Kernel` itself is one."""

    def __call__(
        self,
        pipeline: BoundPipeline,
        /,
        *,
        expected_batch: float,
        relative_error: float,
        noise: NoiseSource | None,
        ranks: Ranks,
    ) -> Releaser: ...


class Driver:
    """A pipeline in its space with what releases its steps.

    Args:
        pipeline: the stages, bound.
        expected_batch, relative_error, noise, ranks: the kernel's.
        make: makes the kernel.
    """

    def __init__(
        self,
        pipeline: BoundPipeline,
        *,
        expected_batch: float,
        relative_error: float,
        noise: NoiseSource | None = None,
        ranks: Ranks = ALONE,
        make: MakeReleaser = Kernel,
    ) -> None:
        self.pipeline = pipeline
        self.releaser = make(
            pipeline,
            expected_batch=expected_batch,
            relative_error=relative_error,
            noise=noise,
            ranks=ranks,
        )

    def open(self, states: States, clock: Clock, public_MD: Tensor | None = None) -> OpenStep:
        """The next step, up to where its rows are formed."""
        context = self.pipeline.open(states, clock, public_MD)
        return OpenStep(self.pipeline, self.releaser, states, context)


@dataclass(frozen=True)
class OpenStep:
    """A step before its release: its rows may depend on `context`, and on nothing released later.

    Args:
        pipeline, releaser: the driver's.
        states: every stage's state before the step.
        context: what is public before a record is looked at.
    """

    pipeline: BoundPipeline
    releaser: Releaser
    states: States
    context: StepContext

    @property
    def bound(self) -> float:
        """C at this step."""
        return float(self.pipeline.bound(self.states))

    def showing(self, public_MD: Tensor | None, weights_D: Tensor | None = None) -> OpenStep:
        """The same step with these gradients of public records, and where it stands."""
        context = replace(self.context, public_MD=public_MD, weights_D=weights_D)
        return replace(self, context=context)

    def dense(self, g_BD: Tensor) -> list[Rows]:
        """The rows of these gradients, in memory; nothing for a batch of no records."""
        if len(g_BD) == 0:
            return []
        return [DenseRows(self.context.transform(g_BD), *self.pipeline.groups)]

    def release(self, batch: Iterable[Rows]) -> tuple[Release, States]:
        """What the step makes public, and every stage's next state."""
        return self.releaser.release(self.states, self.context, batch)
