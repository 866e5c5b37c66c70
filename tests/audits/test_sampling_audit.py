"""The sampler's audit: Poisson draws pass, and every other way of making batches fails."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from audits.sampling_audit import SamplerAudit, audit_sampler, records_for
from benchmarks.audit_calibration import repeatable
from dpcore import DataError, PoissonSampler

SAMPLER = PoissonSampler(0.1, 320)
Batch = NDArray[np.int64]


class Epochs:
    """Every epoch shuffles the records and cuts them into batches of a fixed size."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._batches: Iterator[Batch] = iter(())

    def __call__(self, present: int) -> Batch:
        batch = next(self._batches, None)
        if batch is None:
            order = self._rng.permutation(present)
            self._batches = iter(np.split(order, round(1 / SAMPLER.rate)))
            batch = next(self._batches)
        return batch


RNG = np.random.default_rng(1)


def fixed_size(present: int) -> Batch:
    return RNG.choice(present, 32, replace=False)


def with_replacement(present: int) -> Batch:
    return RNG.integers(0, present, 32)


def in_blocks(present: int) -> Batch:
    starts = np.flatnonzero(RNG.random(present // 4) < 0.1)
    return (4 * starts[:, None] + np.arange(4)).reshape(-1)


def some_twice_as_often(present: int) -> Batch:
    rates = np.where(np.arange(present) < present // 20, 0.2, 0.1 * (1 - 1 / 19))
    return np.flatnonzero(RNG.random(present) < rates)


def too_often(present: int) -> Batch:
    return np.flatnonzero(RNG.random(present) < 0.104)


def rounded_down(present: int) -> Batch:
    return np.flatnonzero(RNG.random(present) < 0.1)[:32]


def the_same_again(present: int) -> Batch:
    return np.flatnonzero(np.random.default_rng(5).random(present) < 0.1)


def one_too_many(present: int) -> Batch:
    return np.array([present], dtype=np.int64)


@pytest.mark.parametrize(
    ("draw", "by"),
    [
        (Epochs(), "batches of 28 to 36 records"),
        (fixed_size, "batches of 28 to 36 records"),
        (with_replacement, "batches with a record twice, or one that does not exist"),
        (one_too_many, "batches with a record twice, or one that does not exist"),
        (in_blocks, "pairs of neighbouring records in one batch"),
        (some_twice_as_often, "inclusions of the record that stands out most"),
        (too_often, "inclusions in all"),
        (rounded_down, "batches of 28 to 36 records"),
        (the_same_again, "records in two batches in a row"),
    ],
    ids=lambda value: getattr(value, "__name__", "epochs") if callable(value) else "",
)
def test_other_batches_are_contradicted(draw: object, by: str) -> None:
    """At 1e-4, which chance would pass in one audit of ten thousand; each by its own test too."""
    audit = audit_sampler(SAMPLER, draws=1000, draw=draw)  # type: ignore[arg-type]  # all are draws
    assert audit.p_value < 1e-4
    assert {t.name: t.p_value for t in audit.tests}[by] < 1e-4 / len(audit.tests)


def test_shuffled_epochs_fail_by_their_repeats_too() -> None:
    audit = audit_sampler(SAMPLER, draws=1000, draw=Epochs())
    repeats = next(t for t in audit.tests if t.name == "records in two batches in a row")
    assert repeats.observed == 0 and repeats.expected == pytest.approx(1600)
    assert repeats.p_value < 1e-300


def test_poisson_draws_are_contradicted_no_more_often_than_promised() -> None:
    """The real sampler, 300 audits at 5%: at most 27, which a true 5% passes once in 780."""
    with repeatable(11):
        rejected = sum(audit_sampler(SAMPLER, draws=60).p_value < 0.05 for _ in range(300))
    assert rejected <= 27
    assert binom.sf(27, 300, 0.05) < 1 / 780


def test_rate_one_takes_everybody() -> None:
    everybody = PoissonSampler(1.0, 40)
    assert audit_sampler(everybody, draws=10).p_value == 1
    assert audit_sampler(everybody, draws=10, draw=lambda n: np.arange(n - 1)).p_value < 1e-9


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.004])
def test_real_sampler_passes_at_every_rate(rate: float) -> None:
    """False alarms: once in 10,000 at each rate; the seed is fixed."""
    with repeatable(2):
        audit: SamplerAudit = audit_sampler(
            PoissonSampler(rate, records_for(rate, 10**6, 100)), draws=100
        )
    assert audit.p_value > 1e-4
    assert audit.records == round(32 / rate)


def test_an_odd_number_of_draws_is_refused() -> None:
    with pytest.raises(DataError, match="even"):
        audit_sampler(SAMPLER, draws=3)
