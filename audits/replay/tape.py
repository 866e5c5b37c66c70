"""A tape of a run's releases: recorded in the first run, given back to its neighbour.

The neighbour draws its own noised sum at every step; how far it lies from the tape's is one
record's doing, and then the tape's is released in its place. So both runs go on from equal
releases, and whatever else differs came past the kernel.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from dp_accounting import DpEvent
from dpigu.dpcore import Release, Rows, States, kernel
from dpigu.dpcore.driver import OpenStep
from dpigu.dpcore.noise import LAWS, NoiseSource
from dpigu.dpcore.noise.laws import Law, LawName, Noised, grid_of
from torch import Tensor

Published = Mapping[str, Any]
"""What a run published, by name: tensors, bytes and text."""
ROUNDING = 2.0**-40
"""What float64 may lose of a release, relatively."""


@dataclass(frozen=True)
class Move:
    """How far one record moved a noised sum, and how far it may."""

    moved: float
    allowed: float


@dataclass
class Tape:
    """The noised sums of a run; `moves` is empty while it is recorded.

    Args:
        noised: every noised sum in the order of the draws, with its sensitivity.
        moves: of the neighbour's, one a draw.
        extra: draws of the neighbour that the first run did not make, or of another length.
    """

    noised: list[tuple[Noised, float]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    extra: int = 0

    def record(self, drawn: Noised, sensitivity: float) -> Noised:
        """Keep a noised sum, and let it be released."""
        self.noised.append((Noised(drawn.value_S.clone(), drawn.std), sensitivity))
        return drawn

    def play(self, drawn: Noised, sensitivity: float) -> Noised:
        """Hold a neighbour's noised sum against the tape's, and release the tape's."""
        at = len(self.moves)
        first, _ = self.noised[at] if at < len(self.noised) else (None, 0.0)
        if first is None or first.value_S.shape != drawn.value_S.shape:
            self.extra += 1
            return drawn
        k = len(drawn.value_S)
        slack = grid_of(drawn.std) * math.sqrt(k) + ROUNDING * float(first.value_S.norm())
        moved = float((drawn.value_S - first.value_S).norm())
        self.moves.append(Move(moved, sensitivity * (1 + ROUNDING) + slack))
        return Noised(first.value_S.clone(), drawn.std)


@dataclass(frozen=True)
class _Taped:
    """A law of noise whose draws pass through a tape."""

    law: Law
    passed: Callable[[Noised, float], Noised]

    @property
    def says(self) -> str:
        return self.law.says

    @property
    def held(self) -> str:
        return self.law.held

    def event(self, noise_multiplier: float) -> DpEvent:
        return self.law.event(noise_multiplier)

    def noised(
        self,
        sum_S: Tensor,
        *,
        coordinates: int,
        sensitivity: float,
        noise_multiplier: float,
        records: int,
        source: NoiseSource,
    ) -> Noised:
        drawn = self.law.noised(
            sum_S,
            coordinates=coordinates,
            sensitivity=sensitivity,
            noise_multiplier=noise_multiplier,
            records=records,
            source=source,
        )
        return self.passed(drawn, sensitivity)


@contextlib.contextmanager
def taped(
    passed: Callable[[Noised, float], Noised],
    before: Callable[[int], None],
    after: Callable[[int, Release, States], None],
) -> Iterator[None]:
    """Noise passes through a tape, and whoever steps a kernel is watched.

    Args:
        passed: what is released of a noised sum.
        before, after: told the number of each release, and what it gave.
    """
    laws: dict[LawName, Law] = {name: _Taped(law, passed) for name, law in LAWS.items()}
    release, count = OpenStep.release, 0

    def watched(step: OpenStep, batch: Iterable[Rows]) -> tuple[Release, States]:
        nonlocal count
        count += 1
        before(count)
        found = release(step, batch)
        after(count, *found)
        return found

    with mock.patch.object(kernel, "LAWS", laws), mock.patch.object(OpenStep, "release", watched):
        yield


def of_release(number: int, release: Release, states: States) -> Published:
    """Every tensor of a release and of the states after it, by name."""
    name = f"release {number}"
    pairs = {"gradient": release.gradient, "noised sum": release.noised, **release.queries}
    found: dict[str, Tensor] = {f"{name}: the support": release.support_D}
    for what, value in pairs.items():
        found[f"{name}: {what}"] = value.value
        found[f"{name}: variance of {what}"] = value.variance
    if release.public_MD is not None:
        found[f"{name}: public gradients"] = release.public_MD
    for stage, state in states.items():
        found |= {f"{name}: state {key} of {stage}": value for key, value in state.items()}
    return {key: torch.as_tensor(value).detach().clone() for key, value in found.items()}
