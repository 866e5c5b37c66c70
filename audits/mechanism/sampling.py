"""The sampler by itself: does every record join every batch by a coin of its own?

At a small rate a single step of the whole mechanism hardly tells neighbours apart, so kernel and
sampler are audited separately: the kernel at rate 1, and the sampler's draws here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from dpigu.audits.statistics import bonferroni
from dpigu.dpcore import DataError, PoissonSampler
from dpigu.mechanisms.public_random import public_generator
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

Draw = Callable[[int, int], ArrayLike]
"""(records, step) to the indices of a batch."""
Members = NDArray[np.bool_]

_MOST_COINS = 30_000_000


@dataclass(frozen=True, kw_only=True)
class SamplerTest:
    """One exact binomial test: so many of the trials, where chance gives about `expected`.

    `p_value` is two-sided, and corrected where the test looks at every record.
    """

    name: str
    observed: int
    trials: int
    expected: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class SamplerAudit:
    """The tests of a sampler's draws; `p_value` is corrected for their number.

    Draws of a Poisson sampler give p_value < a in at most a share a of audits, for every a.
    """

    rate: float
    records: int
    draws: int
    p_value: float
    tests: tuple[SamplerTest, ...]

    @property
    def worst(self) -> SamplerTest:
        """The test with the smallest p-value."""
        return min(self.tests, key=lambda test: test.p_value)


def records_for(rate: float, declared: int, draws: int) -> int:
    """How many records to audit a sampler of this rate on: 32/q, no more than declared or quick."""
    return max(2, min(declared, math.ceil(32 / rate), _MOST_COINS // draws))


def audit_sampler(
    sampler: PoissonSampler, *, draws: int = 1000, draw: Draw | None = None
) -> SamplerAudit:
    """Test that a sampler's draws are Poisson: inclusion, batch size, pairs, repeats, and form.

    Under the claim the coins X_{t,i} are independent with P[X = 1] = q, so each of these counts
    is binomial: inclusions in all, and of every record; batches whose size lies in the middle
    half; pairs of records (neighbours, and far apart) in one batch; records in both of two
    batches that follow each other, and of the two that share most of all. A record listed twice
    in a batch, or one that does not exist, contradicts outright. Batches of a fixed size fail by
    their size, shuffled epochs by their size and by their repeats.

    Where records take turns in b blocks, the batches of b steps in a row make one together, which
    by the claim is Poisson at rate b·q; a record outside its own turn has no place in any.

    Args:
        sampler: its rate q, declared number of records and blocks are the claim.
        draws: batches to draw, an even number; of blocks, so many turns of all of them.
        draw: the indices of a step's batch out of so many records; None takes `sampler.draw`.

    Raises: DataError for an odd number of draws, or none.
    """
    if draws < 2 or draws % 2:
        raise DataError("draws must be an even number, and not 0", where="draws", got=draws)
    q, n, blocks = sampler.block_rate, sampler.records, sampler.blocks
    drawn = sampler.draw if draw is None else draw
    steps = [np.asarray(drawn(n, t), dtype=np.int64) for t in range(draws * blocks)]
    tests = [_form(steps, n, blocks)]
    if tests[0].p_value == 1:
        batches = [np.concatenate(steps[t : t + blocks]) for t in range(0, len(steps), blocks)]
        members = np.zeros((draws, n), dtype=bool)
        for t, batch in enumerate(batches):
            members[t, batch] = True
        tests += [_inclusion(members, q), _each_record(members, q)]
        if q < 1:
            tests += [
                _size(members, q),
                *_pairs(members, q),
                _repeats(members, q),
                _alike(members, q),
            ]
    p_value = bonferroni([test.p_value for test in tests])
    return SamplerAudit(
        rate=sampler.rate, records=n, draws=draws, p_value=p_value, tests=tuple(tests)
    )


def _form(steps: list[NDArray[np.int64]], records: int, blocks: int) -> SamplerTest:
    """A batch lists records that exist, in their turn, each once: else it has probability 0."""
    bad = sum(
        len(np.unique(batch)) < len(batch)
        or bool(((batch < 0) | (batch >= records) | (batch % blocks != t % blocks)).any())
        for t, batch in enumerate(steps)
    )
    name = "batches with a record twice, or one that does not exist"
    return SamplerTest(
        name=name if blocks == 1 else f"{name}, or out of its turn",
        observed=bad,
        trials=len(steps),
        expected=0.0,
        p_value=sys.float_info.min if bad else 1.0,
    )


def _inclusion(members: Members, q: float) -> SamplerTest:
    return _binomial("inclusions in all", int(members.sum()), members.size, q)


def _each_record(members: Members, q: float) -> SamplerTest:
    counts, draws = members.sum(0), len(members)
    p_values = np.array([_two_sided(int(k), draws, q) for k in np.unique(counts)])
    rarest = int(np.unique(counts)[p_values.argmin()])
    return SamplerTest(
        name="inclusions of the record that stands out most",
        observed=rarest,
        trials=draws,
        expected=draws * q,
        p_value=min(1.0, len(counts) * float(p_values.min())),
    )


def _size(members: Members, q: float) -> SamplerTest:
    """How many batches have a size from the lower to the upper quartile of Bin(N, q)."""
    sizes, n = members.sum(1), members.shape[1]
    low, high = int(binom.ppf(0.25, n, q)), int(binom.ppf(0.75, n, q))
    share = float(binom.cdf(high, n, q) - binom.cdf(low - 1, n, q))
    inside = int(((sizes >= low) & (sizes <= high)).sum())
    return _binomial(f"batches of {low} to {high} records", inside, len(sizes), share)


def _pairs(members: Members, q: float) -> list[SamplerTest]:
    """Disjoint pairs of records, both in one batch: neighbours, and a fixed random pairing."""
    n = members.shape[1]
    far = torch.randperm(n, generator=public_generator("sampler pairs", n)).numpy()
    found = []
    for name, order in (("neighbouring records", np.arange(n)), ("records far apart", far)):
        first, second = members[:, order[: n - 1 : 2]], members[:, order[1::2]]
        both = first & second
        found.append(_binomial(f"pairs of {name} in one batch", int(both.sum()), both.size, q**2))
    return found


def _repeats(members: Members, q: float) -> SamplerTest:
    """Records in both of two batches in a row; the pairs of batches are disjoint."""
    both = members[0::2] & members[1::2]
    return _binomial("records in two batches in a row", int(both.sum()), both.size, q**2)


def _alike(members: Members, q: float) -> SamplerTest:
    """The records that two batches share, where they share most: Bin(N, q²), of every pair."""
    draws, n = members.shape
    ones = members.astype(np.float32)
    shared = np.triu(ones @ ones.T, k=1)
    most = int(shared.max())
    p_value = draws * (draws - 1) / 2 * float(binom.sf(most - 1, n, q**2))
    return SamplerTest(
        name="records that the two batches most alike share",
        observed=most,
        trials=n,
        expected=n * q**2,
        p_value=max(sys.float_info.min, min(1.0, p_value)),
    )


def _binomial(name: str, observed: int, trials: int, probability: float) -> SamplerTest:
    return SamplerTest(
        name=name,
        observed=observed,
        trials=trials,
        expected=trials * probability,
        p_value=_two_sided(observed, trials, probability),
    )


def _two_sided(k: int, trials: int, probability: float) -> float:
    """2 · min(P[Bin ≤ k], P[Bin ≥ k]), at most 1 and never 0."""
    tails = binom.cdf(k, trials, probability), binom.sf(k - 1, trials, probability)
    return max(sys.float_info.min, min(1.0, 2 * float(min(tails))))
