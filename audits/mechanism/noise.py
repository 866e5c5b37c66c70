"""The noise by itself: is it at every step and on every coordinate, and what is claimed?

A batch of no records releases the noise alone. A phase is walked through at its own length, in a
space of thousands of coordinates; queries and selective updates are drawn with it. No neighbours
are needed to see noise that is missing, repeated, misshapen or coarse.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from dpigu.audits.mechanism.draws import Draws, NoiseTest, noise_tests
from dpigu.audits.mechanism.traces import RECORDS, ShortRun, begin, mixed, public_MD
from dpigu.audits.statistics import Reals, bonferroni
from dpigu.dpcore import (
    Clock,
    DpiguError,
    MakeReleaser,
    NoiseSource,
    OpenStep,
    Phase,
    Plan,
    Reads,
    Release,
    Released,
    Space,
)
from numpy.typing import NDArray
from torch import Tensor

WIDE = Space(
    ("conv.weight", "conv.bias", "hidden.weight", "hidden.bias", "out.weight", "out.bias"),
    ((8, 1, 3, 3), (8,), (64, 72), (64,), (10, 64), (10,)),
)
"""5,402 coordinates: what is left out beyond some number of them shows."""


@dataclass(frozen=True, kw_only=True)
class NoiseAudit:
    """The tests of every release's noise; `p_value` is corrected for their number.

    Where the noise is what is claimed, p_value < a in at most a share a of audits, for every a.
    """

    draws: int
    p_value: float
    tests: tuple[NoiseTest, ...]

    @property
    def worst(self) -> NoiseTest | None:
        """The test with the smallest p-value; None where nothing was drawn."""
        return min(self.tests, key=lambda test: test.p_value, default=None)


def audit_noise(
    plan: Plan,
    *,
    steps: int,
    space: Space = WIDE,
    kernel: MakeReleaser,
    noise: NoiseSource | None = None,
) -> NoiseAudit:
    """Test the noise of every phase, over the whole of its own length.

    Args:
        steps: of each phase, at most: half of them from its start, the others evenly to its end.
        space: where the rows live.
        kernel: what releases a step. One that refuses an empty batch ends the walk.
        noise: where its bits come from; None takes the system's.
    """
    makes = ShortRun("the noise", (), 0.0, plan.adjacency, space, kernel, noise)
    tests: list[NoiseTest] = []
    earlier: Reads = {}
    total = 0
    for phase in plan.phases:
        heard, earlier = _walked(phase, makes, earlier, steps)
        for one in heard.values():
            draws = one.draws()
            total += int(draws.live_TK.sum())
            tests += noise_tests(draws)
    p_value = bonferroni([test.p_value for test in tests]) if tests else 1.0
    return NoiseAudit(draws=total, p_value=p_value, tests=tuple(tests))


def places(steps: int, most: int) -> list[int]:
    """Steps of a phase from all of it: the first half of them in a row, then evenly to the last."""
    if steps <= most:
        return list(range(steps))
    first = (most + 1) // 2
    spread = np.linspace(first, steps - 1, most - first + 1)[1:]
    return [*range(first), *np.round(spread).astype(int).tolist()]


@dataclass
class _Heard:
    """The noise of one release over some steps."""

    where: str
    multiplier: float
    lattice: bool
    grid: bool
    noise: list[Reals] = field(default_factory=list)
    live: list[NDArray[np.bool_]] = field(default_factory=list)
    claimed: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    def hear(self, released: Released, live_K: NDArray[np.bool_], bound: float) -> None:
        claimed = self.multiplier * bound
        declared = float(released.variance.double().max().sqrt()) * RECORDS
        self.noise.append(released.value.double().numpy() * RECORDS)
        self.live.append(live_K)
        self.claimed.append(claimed)
        self.std.append(max(declared, claimed))

    def draws(self) -> Draws:
        return Draws(
            where=self.where,
            noise_TK=np.array(self.noise),
            live_TK=np.array(self.live),
            claimed_T=np.array(self.claimed),
            std_T=np.array(self.std),
            multiplier=self.multiplier,
            lattice=self.lattice,
            grid=self.grid,
        )


def _walked(
    phase: Phase, makes: ShortRun, earlier: Reads, most: int
) -> tuple[dict[str, _Heard], Reads]:
    """A phase on empty batches: what was heard, and what later phases may read."""
    driver = makes.driver(phase.pipeline, earlier)
    pipeline, heard = driver.pipeline, dict[str, _Heard]()
    states = begin(pipeline, phase.steps)
    try:
        past: list[Tensor] = []
        for step in _steps_of(phase, most):
            clock = Clock(step, phase.steps)
            opened = driver.open(states, clock, public_MD(pipeline.space.size, 0))
            release, states = opened.release([])
            if phase.pipeline.factorisation is not None:
                past.insert(0, release.noised.value)
                release = replace(release, noised=_independent(phase, release.noised, past))
            _hear(heard, phase.name, opened, release)
            if phase.selective_update is not None:
                reads = pipeline.views(states)
                chosen = makes.driver(phase.selective_update.pipeline, reads)
                size = chosen.pipeline.space.size
                begun = begin(chosen.pipeline, phase.steps)
                opened = chosen.open(begun, clock, public_MD(size, 0))
                _hear(heard, f"{phase.name}, selective update", opened, opened.release([])[0])
    except DpiguError:
        pass  # an empty batch that is refused: the situations without a batch tell that apart
    return heard, pipeline.views(states)


def _steps_of(phase: Phase, most: int) -> list[int]:
    """The steps that are walked through: in a row where noise is correlated across them."""
    if phase.pipeline.factorisation is None:
        return places(phase.steps, most)
    return list(range(min(phase.steps, most)))


def _independent(phase: Phase, noised: Released, past: list[Tensor]) -> Released:
    """What was released before it was decoded: its noise is independent, of the bound's scale."""
    return noised.derive(mixed(phase, past), torch.zeros_like(noised.variance))


def _hear(heard: dict[str, _Heard], name: str, opened: OpenStep, release: Release) -> None:
    """Add a step's noise, and that of its queries."""
    noiser = opened.pipeline.stages.noiser
    plain = opened.pipeline.stages.factorisation is None
    lattice, sigma = noiser.law == "gaussian" and plain, noiser.noise_multiplier
    if name not in heard:
        heard[name] = _Heard(name, sigma, lattice, plain)
    heard[name].hear(release.noised, opened.context.noise_support_K.numpy(), opened.bound)
    for placed in opened.pipeline.stages.of("query"):
        query, answer = placed.stage, release.queries[placed.name]
        where = f"{name}, {placed.name}"
        if where not in heard:
            heard[where] = _Heard(where, sigma * query.noise_ratio, lattice, True)
        heard[where].hear(answer, np.ones(len(answer.value), dtype=bool), query.bound)
