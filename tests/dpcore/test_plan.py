"""A plan checks itself, and gives the one event that is charged."""

from __future__ import annotations

import dataclasses

import dp_accounting
import pytest
from dpigu.dpcore import Adjacency, GrammarError, Phase, Pipeline, Plan, PoissonSampler
from dpigu.mechanisms import AffineRestorer, EmaStandardizer, Flat, Gaussian, MeanAbsolute, TopK
from hypothesis import given
from hypothesis import strategies as st

C = Flat(bound=1.0)
PLAIN = Pipeline(clipper=C, noiser=Gaussian())
SILENT = Pipeline(clipper=C, noiser=Gaussian(noise_multiplier=0.0))
SCORED = Pipeline(clipper=C, noiser=Gaussian(), scorer=MeanAbsolute())
MASKED = Pipeline(clipper=C, noiser=Gaussian(), scheduler=TopK())
SAMPLER = PoissonSampler(0.25, 100)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Plan(()), "Plan.phases: a plan needs at least one phase."),
        (
            lambda: Plan((Phase("a", PLAIN, 1), Phase("a", PLAIN, 2))),
            "Plan.phases: two phases share a name (got ['a', 'a']).",
        ),
        (
            lambda: Plan((Phase("main", MASKED, 1),)),
            "Phase 'main', scheduler: top-k: it reads 'scorer', and no stage of this or an "
            "earlier phase has that name (got scorer, expected one of "
            "['clipper', 'flat', 'gaussian', 'noiser', 'scheduler', 'top-k']).",
        ),
        (
            lambda: Plan((Phase("a", PLAIN, 1), Phase("b", SILENT, 1))),
            "Plan.phases: a phase without noise makes the whole plan non-private "
            "(got {'a': 1.0, 'b': 0.0}). Give every phase noise, or none of them.",
        ),
        (
            lambda: Phase("a", PLAIN, 0),
            "Phase 'a': a phase needs a whole number of steps, at least one (got 0).",
        ),
        (
            lambda: Phase("a", PLAIN, 1, inherits=("weights", "momentum")),
            "Phase 'a'.inherits: a phase can inherit weights and optimizer "
            "(got ['momentum'], expected ['weights', 'optimizer']).",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_it(make, line):
    with pytest.raises(GrammarError) as caught:
        make()
    assert str(caught.value) == line


def test_a_phase_reads_the_stages_of_earlier_phases_and_not_of_later_ones():
    plan = Plan((Phase("first", SCORED, 3), Phase("second", MASKED, 4)))
    assert plan.steps == 7
    with pytest.raises(GrammarError, match="no stage of this or an earlier phase"):
        Plan((Phase("second", MASKED, 4), Phase("first", SCORED, 3)))


def test_a_restorer_without_its_standardizer_is_refused():
    lost = Pipeline(clipper=C, noiser=Gaussian(), posts=(AffineRestorer(of="ema-standardizer"),))
    with pytest.raises(GrammarError, match="it reads 'ema-standardizer'"):
        Plan((Phase("main", lost, 1),))
    found = Pipeline(
        clipper=C,
        noiser=Gaussian(),
        rows=(EmaStandardizer(),),
        posts=(AffineRestorer(of="ema-standardizer"),),
    )
    assert Plan((Phase("main", found, 1),)).private


@given(st.integers(1, 1000), st.integers(1, 1000), st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_event_composes_every_step_of_every_phase(first, second, z, factor):
    loud = Pipeline(clipper=C, noiser=Gaussian(noise_multiplier=z))
    plan = Plan((Phase("first", SCORED, first), Phase("second", loud, second)))
    event = plan.scaled_noise(factor).event(SAMPLER)
    assert event == dp_accounting.ComposedDpEvent(
        [
            dp_accounting.SelfComposedDpEvent(sampled(factor), first),
            dp_accounting.SelfComposedDpEvent(sampled(z * factor), second),
        ]
    )


def sampled(multiplier):
    return dp_accounting.PoissonSampledDpEvent(0.25, dp_accounting.GaussianDpEvent(multiplier))


def test_only_the_steps_that_ran_are_charged():
    plan = Plan((Phase("first", SCORED, 10), Phase("second", PLAIN, 10)))
    assert plan.event(SAMPLER, (10, 3)).events[1].count == 3
    assert len(plan.event(SAMPLER, (4, 0)).events) == 1


def test_every_phase_has_its_count():
    plan = Plan((Phase("first", SCORED, 10), Phase("second", PLAIN, 10)))
    for counts in ((10,), (10, 10, 10)):
        with pytest.raises(ValueError, match="zip"):
            plan.event(SAMPLER, counts)


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (SAMPLER, "rate"),
        (PLAIN, "noiser"),
        (Phase("main", PLAIN, 5), "steps"),
        (Plan((Phase("main", PLAIN, 5),)), "phases"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_is_assigned_after_it_was_checked(made, field):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, field, None)


def test_a_full_batch_is_not_amplified():
    plan = Plan((Phase("main", PLAIN, 5),))
    (steps,) = plan.event(PoissonSampler(1.0, 100)).events
    assert steps.event == dp_accounting.GaussianDpEvent(1.0)


def test_a_plan_without_noise_is_a_plan_that_claims_nothing():
    plan = Plan((Phase("main", SILENT, 5),))
    assert not plan.private
    assert plan.event(SAMPLER) == dp_accounting.NonPrivateDpEvent()


def test_adjacency_is_part_of_the_plan_and_survives_scaling():
    plan = Plan((Phase("main", PLAIN, 5),), Adjacency.REPLACE_ONE)
    assert plan.scaled_noise(2.0).adjacency is Adjacency.REPLACE_ONE
    assert plan != Plan((Phase("main", PLAIN, 5),))


@pytest.mark.parametrize(
    ("rate", "records", "where"),
    [
        (0.0, 10, "PoissonSampler.rate"),
        (1.1, 10, "PoissonSampler.rate"),
        (0.5, 0, "PoissonSampler.records"),
    ],
)
def test_a_sampler_out_of_range_is_named(rate, records, where):
    with pytest.raises(GrammarError) as caught:
        PoissonSampler(rate, records)
    assert caught.value.where == where


def test_one_record_is_enough():
    assert PoissonSampler(0.5, 1).expected_batch == 0.5
