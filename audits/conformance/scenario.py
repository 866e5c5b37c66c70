"""Made-up situations that stages are checked in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    Driver,
    PhaseContext,
    Pipeline,
    Record,
    Released,
    ReproducibleNoise,
    Space,
)
from dpigu.mechanisms import Flat, Gaussian
from dpigu.mechanisms.public_random import public_generator
from hypothesis import strategies as st
from torch import Tensor

PAIR = Space(("weight",), ((2,),))
ONE = Space(("weight",), ((1,),))
LAYERS = Space(("one.weight", "one.bias", "two.weight"), ((2, 2), (2,), (1, 2)))
CONVOLUTION = Space(("conv.weight", "conv.bias", "out.weight"), ((4, 2, 3, 3), (4,), (5, 8)))
SPACES = (PAIR, ONE, LAYERS, CONVOLUTION)
WIDE = Space(("one.weight", "one.bias", "two.weight"), ((40, 60), (40,), (30, 40)))
"""3,640 coordinates, for a few examples: what is left out beyond some number of them shows."""
SHAPE = (2, 4, 4)
"""The shape of a made-up record: two channels of 4 × 4."""
PUBLIC = 6
"""How many public records' gradients a stage is shown."""


@dataclass(frozen=True)
class Scenario:
    """A made-up situation: the space, how long the phase is, and what rows look like."""

    space: Space
    dtype: torch.dtype
    scale: float
    steps: int
    seed: int

    def __repr__(self) -> str:
        blocks = ", ".join(f"{n} {'×'.join(map(str, s))}" for n, _, s in self.space.blocks())
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        kind = str(self.dtype).removeprefix("torch.")
        return f"space ({blocks}), {kind} rows of scale {self.scale:g}, {steps}, seed {self.seed}"

    def context(self) -> PhaseContext:
        """What a stage sees at the start of a phase."""
        weights_D = self.normal("weights", size=self.space.size)
        return PhaseContext(self.space, weights_D, self.steps, self.seed, self.public_MD(-1))

    def public_MD(self, step: int) -> Tensor:
        """The gradients of some public records at a step, and before the first (−1)."""
        return self.rows("public", step, size=self.space.size, count=PUBLIC)

    def records(self, *parts: object, count: int = 4) -> tuple[Tensor, Tensor]:
        """Some made-up records of `SHAPE`, and their labels 0 and 1."""
        x_B = self.normal("records", *parts, size=math.prod(SHAPE), count=count)
        y_B = (self.normal("labels", *parts, size=count) > 0).to(torch.int64)
        return x_B.reshape(count, *SHAPE), y_B

    def record(self, x: Tensor, y: Tensor) -> Record:
        """One record before the model ½(w·φ − y)², φ its pixels repeated to the weights' length."""
        weights_D = self.context().weights_D
        phi_D = self.scale * x.reshape(-1)[torch.arange(len(weights_D)) % x.numel()]

        def residual(at_D: Tensor | None) -> Tensor:
            return (weights_D if at_D is None else at_D) @ phi_D - y

        def outputs() -> Tensor:
            return torch.stack([phi_D @ weights_D, -phi_D @ weights_D])

        def loss(at_D: Tensor | None) -> Tensor:
            return residual(at_D) ** 2 / 2

        return Record(x, y, loss, lambda: residual(None) * phi_D, outputs, lambda: weights_D)

    def normal(self, *parts: object, size: int, count: int | None = None) -> Tensor:
        """Normal draws that the scenario fixes, in the dtype of its rows."""
        shape = (size,) if count is None else (count, size)
        generator = public_generator("conformance", self.seed, *parts)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)

    def rows(self, *parts: object, size: int, count: int = 4) -> Tensor:
        """Some records' rows, of the scenario's scale."""
        return self.scale * self.normal("rows", *parts, size=size, count=count)


def scenarios(
    spaces: tuple[Space, ...] = SPACES, steps: tuple[int, ...] = (1, 2, 3, 8)
) -> st.SearchStrategy[Scenario]:
    """Situations, the simplest first."""
    return st.builds(
        Scenario,
        space=st.sampled_from(spaces),
        dtype=st.sampled_from((torch.float32, torch.float64)),
        scale=st.sampled_from((1.0, 1e-6, 1e6)),
        steps=st.sampled_from(steps),
        seed=st.integers(0, 7),
    )


@cache
def minted() -> Released:
    """A value that a kernel released; others derive from it."""
    space = Space.flat("one", 1)
    stages = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(noise_multiplier=0.0))
    pipeline = BoundPipeline(stages, space)
    states = pipeline.begin(PhaseContext(space, torch.zeros(1), 1, 0))
    driver = Driver(pipeline, expected_batch=1.0, relative_error=0.0, noise=ReproducibleNoise(0))
    release, _ = driver.open(states, Clock(0, 1)).release([])
    return release.noised


def released(value_K: Tensor, variance_K: Tensor) -> Released:
    """A released vector of these values."""
    return minted().derive(value_K.to(torch.float64), variance_K.to(torch.float64))
