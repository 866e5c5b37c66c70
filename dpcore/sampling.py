"""Poisson sampling, and the event that it makes of a release."""

from __future__ import annotations

import os
from dataclasses import dataclass

import dp_accounting
import numpy as np
from dpigu.dpcore.errors import GrammarError
from numpy.typing import NDArray


def system_generator() -> np.random.Generator:
    """A generator keyed afresh from the operating system; its key is never stored.

    Philox with the full 128-bit key, so that no search over short seeds can replay it.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(os.urandom(16), "little")))


@dataclass(frozen=True)
class PoissonSampler:
    """Every record joins a batch independently with probability `rate`.

    The event of a step is PoissonSampledDpEvent(rate, release); a rate of 1 takes every
    record and amplifies nothing.

    Args:
        rate: the sampling rate q in (0, 1].
        records: the declared (public) number of records N; rate × N is the expected batch.
    """

    rate: float
    records: int

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise GrammarError(
                "the sampling rate must lie in (0, 1]",
                where="PoissonSampler.rate",
                got=self.rate,
                remedy="Give a rate, or an expected batch no larger than the declared records.",
            )
        if self.records < 1:
            raise GrammarError(
                "the declared number of records must be at least 1",
                where="PoissonSampler.records",
                got=self.records,
            )

    @property
    def expected_batch(self) -> float:
        """rate × declared records: the only divisor."""
        return self.rate * self.records

    def event(self, release: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
        """The event of one sampled release."""
        if self.rate == 1.0 or isinstance(release, dp_accounting.NonPrivateDpEvent):
            return release
        return dp_accounting.PoissonSampledDpEvent(self.rate, release)

    def draw(self, present: int) -> NDArray[np.int64]:
        """The indices of one batch out of the records that are present (private).

        Sampled from the operating system's entropy: a fresh key for every batch.
        """
        if self.rate == 1.0:
            return np.arange(present, dtype=np.int64)
        return np.flatnonzero(system_generator().random(present) < self.rate)
