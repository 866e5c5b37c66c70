"""Poisson sampling, and the event that it makes of a release."""

from __future__ import annotations

import math
from dataclasses import dataclass

import dp_accounting
import numpy as np
from dpigu.dpcore.errors import GrammarError
from dpigu.dpcore.randomness import coins
from numpy.typing import NDArray


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

        Coins of the operating system's bits, true with probability exactly `rate`.
        """
        return np.flatnonzero(coins(self.rate, present))


def max_batch(expected_batch: float) -> int:
    """A public cap on the rows of one Poisson batch and its padding, for the rounding margin.

    2 · expected + 20 √expected + 100: the engines of all ranks together pad by at most the
    expected batch, and with no more records than declared a batch passes the rest with a
    probability below e⁻¹⁴⁰ (Chernoff).
    """
    return math.ceil(2 * expected_batch + 20 * math.sqrt(expected_batch) + 100)
