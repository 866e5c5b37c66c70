"""The sampler's audit: Poisson draws pass, and every other way of making batches fails."""

from __future__ import annotations

import numpy as np
import pytest
from dpigu.audits.mechanism.audit import in_turns
from dpigu.audits.mechanism.sampling import SamplerAudit, audit_sampler, records_for
from dpigu.dpcore import DataError, PoissonSampler
from dpigu.mechanisms import PRESETS
from scipy.stats import binom

from benchmarks.audits.audit_calibration import repeatable
from tests.support.zoo.bad_samplers import SAMPLERS, Epochs

SAMPLER = PoissonSampler(0.1, 320)


@pytest.mark.parametrize(
    ("draw", "by"),
    [
        ("shuffled epochs", "batches of 28 to 36 records"),
        ("batches of a fixed size", "batches of 28 to 36 records"),
        ("drawn with replacement", "batches with a record twice, or one that does not exist"),
        ("a record that does not exist", "batches with a record twice, or one that does not exist"),
        ("records in blocks", "pairs of neighbouring records in one batch"),
        ("some records twice as often", "inclusions of the record that stands out most"),
        ("a rate 4% too high", "inclusions in all"),
        ("batches cut at the expected size", "batches of 28 to 36 records"),
        ("the same batch again", "records in two batches in a row"),
        ("an earlier batch now and then", "records that the two batches most alike share"),
    ],
)
def test_other_batches_are_contradicted(draw: str, by: str) -> None:
    """At 1e-4, which chance would pass in one audit of ten thousand; each by its own test too."""
    audit = audit_sampler(SAMPLER, draws=1000, draw=SAMPLERS[draw]())
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
    assert audit_sampler(everybody, draws=10, draw=lambda n, _: np.arange(n - 1)).p_value < 1e-9


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.004])
def test_real_sampler_passes_at_every_rate(rate: float) -> None:
    """False alarms: once in 10,000 at each rate; the seed is fixed."""
    with repeatable(2):
        audit: SamplerAudit = audit_sampler(
            PoissonSampler(rate, records_for(rate, 10**6, 100)), draws=100
        )
    assert audit.p_value > 1e-4
    assert audit.records == round(32 / rate)


TURNS = PoissonSampler(0.05, 160, blocks=4)


def test_records_that_take_turns_pass() -> None:
    """`bandmf`'s sampler: a false alarm once in 10,000; the seed is fixed."""
    assert in_turns(PRESETS["bandmf"].plan(8), PoissonSampler(0.05, 160)) == TURNS
    with repeatable(3):
        audit = audit_sampler(TURNS, draws=400)
    assert audit.p_value > 1e-4 and len(audit.tests) == 8 and audit.records == 160


@pytest.mark.parametrize(
    ("instead", "blocks", "by"),
    [
        (TURNS, 2, "out of its turn"),
        (PoissonSampler(0.2, 160), 1, "out of its turn"),
        (PoissonSampler(0.0125, 160, blocks=4), 4, "inclusions in all"),
    ],
)
def test_other_turns_are_contradicted(instead: PoissonSampler, blocks: int, by: str) -> None:
    """A block two steps in a row; nobody's turn; a rate of q where the block's is b·q."""
    with repeatable(4):
        audit = audit_sampler(
            TURNS, draws=400, draw=lambda n, step: instead.draw(n, step * blocks // 4)
        )
    assert audit.p_value < 1e-4 and by in audit.worst.name


def test_records_of_a_turn_that_join_together_are_contradicted() -> None:
    """A turn's records all or none: each has the right rate, and sizes and pairs tell."""
    draw = np.random.default_rng(5)

    def together(n: int, step: int) -> np.ndarray:
        block = np.arange(step % 4, n, 4)
        return block if draw.random() < 0.2 else block[:0]

    audit = audit_sampler(TURNS, draws=400, draw=together)
    sizes = next(test for test in audit.tests if test.name.startswith("batches of"))
    assert sizes.p_value < 1e-4


def test_an_odd_number_of_draws_is_refused() -> None:
    with pytest.raises(DataError, match="even"):
        audit_sampler(SAMPLER, draws=3)
