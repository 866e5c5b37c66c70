"""Poisson sampling, of all records or of blocks in turn, and the event it makes of a release."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from dpigu.dpcore.errors import GrammarError, PrivacyError
from dpigu.dpcore.randomness import coins
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dp_accounting import DpEvent


@dataclass(frozen=True)
class PoissonSampler:
    """Every record of one block in turn joins a batch independently with probability b · `rate`.

    One block is ordinary Poisson sampling: every record, at every step, with probability `rate`.
    With b blocks a record belongs to one of them (its index modulo b), so that it is in no two
    batches of fewer than b steps apart, and batches are as large as with one. The event of one
    release is PoissonSampledDpEvent(b · rate, release); a rate of 1 there takes every record of
    a block and amplifies nothing.

    Args:
        rate: the sampling rate q in (0, 1], over all steps.
        records: the declared (public) number of records N; rate × N is the expected batch.
        blocks: b, of indices; b · q is at most 1.

    Source: cyclic Poisson sampling, Choquette-Choo et al. 2023 (arXiv 2306.08153), Algorithm 2.

    Examples:
        >>> PoissonSampler(rate=0.1, records=2000).expected_batch
        200.0
    """

    rate: float
    records: int
    blocks: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise GrammarError(
                "the sampling rate must lie in (0, 1]",
                where="PoissonSampler.rate",
                got=self.rate,
                remedy="Give a rate, or an expected batch no larger than the declared records.",
            )
        if not (self.blocks >= 1 and self.block_rate <= 1.0):
            raise GrammarError(
                "records cannot take turns so seldom: a block is sampled at blocks × rate",
                where="PoissonSampler.blocks",
                got=f"{self.blocks} blocks at rate {self.rate:g}",
                expected=f"from 1 to {math.floor(1 / self.rate)} blocks",
                remedy="Take fewer bands, or a smaller expected batch.",
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

    @property
    def block_rate(self) -> float:
        """b · q, at which the records of the block whose turn it is are sampled."""
        return self.blocks * self.rate

    def event(self, release: DpEvent) -> DpEvent:
        """The event of one sampled release."""
        from dp_accounting import NonPrivateDpEvent, PoissonSampledDpEvent

        if self.block_rate == 1.0 or isinstance(release, NonPrivateDpEvent):
            return release
        return PoissonSampledDpEvent(self.block_rate, release)

    def draw(self, present: int, step: int = 0) -> NDArray[np.int64]:
        """The indices of a step's batch out of the records that are present (private).

        Coins of the operating system's bits, true with probability exactly b · q.
        """
        block = np.arange(step % self.blocks, present, self.blocks)
        return block[coins(self.block_rate, len(block))]


def max_batch(expected_batch: float) -> int:
    """A public cap on the rows of one Poisson batch and its padding, for the rounding margin.

    2 · expected + 20 √expected + 100: the engines of all ranks together pad by at most the
    expected batch, and with no more records than declared a batch passes the rest with a
    probability below e⁻¹⁴⁰ (Chernoff).
    """
    return math.ceil(2 * expected_batch + 20 * math.sqrt(expected_batch) + 100)


def check_batch(rows: int, most: int) -> None:
    """A `PrivacyError` for a batch of more rows than `max_batch` allows."""
    if rows > most:
        raise PrivacyError(
            "a batch has more rows than the rounding margin allows",
            where="Kernel.release",
            expected=f"at most {most}",
            remedy="Declare a number of records close to the true one.",
        )
