"""`flatten` is a canonical form: invariant under every rewriting that changes nothing."""

from __future__ import annotations

import dataclasses
import math

import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dpigu.accountants.events import Term, flatten, has_guarantee, joined_gaussian
from dpigu.dpcore.errors import AccountingError
from hypothesis import given
from hypothesis import strategies as st

from tests.accountants.cases import rebuilt

MULTIPLIERS = st.sampled_from([0.3, 1.0, 2.5, 40.0]) | st.floats(1e-3, 1e3)
GAUSSIANS = MULTIPLIERS.map(GaussianDpEvent)
RATES = st.sampled_from([0.0, 1e-4, 0.5, 1.0]) | st.floats(0.0, 1.0)


def _compositions(events: st.SearchStrategy[DpEvent]) -> st.SearchStrategy[DpEvent]:
    return st.lists(events, max_size=3).map(ComposedDpEvent) | st.builds(
        SelfComposedDpEvent, events, st.integers(0, 5)
    )


JOINT = st.recursive(GAUSSIANS | st.just(NoOpDpEvent()), _compositions, max_leaves=4)
LEAVES = GAUSSIANS | st.just(NoOpDpEvent()) | st.builds(PoissonSampledDpEvent, RATES, JOINT)
EVENTS = st.recursive(LEAVES, _compositions, max_leaves=8)


@given(event=EVENTS)
def test_terms_are_sorted_merged_and_cost_something(event: DpEvent) -> None:
    terms = flatten(event)
    pairs = [(t.rate, t.noise_multiplier) for t in terms]
    assert pairs == sorted(set(pairs))
    assert all(0 < t.rate <= 1 and 0 < t.noise_multiplier < math.inf for t in terms)
    assert all(t.count >= 1 for t in terms)
    assert has_guarantee(terms)


@given(event=EVENTS)
def test_flattening_what_was_flattened_changes_nothing(event: DpEvent) -> None:
    assert flatten(rebuilt(flatten(event))) == flatten(event)


@given(events=st.lists(EVENTS, max_size=4), shuffled=st.randoms(use_true_random=False))
def test_order_and_grouping_do_not_matter(events: list[DpEvent], shuffled: object) -> None:
    other = list(events)
    shuffled.shuffle(other)  # type: ignore[attr-defined]  # a random.Random
    nested: DpEvent = NoOpDpEvent()
    for event in other:
        nested = ComposedDpEvent([event, nested])
    assert flatten(ComposedDpEvent(events)) == flatten(nested)


@given(event=EVENTS, count=st.integers(0, 6))
def test_self_composition_is_repeated_composition(event: DpEvent, count: int) -> None:
    assert flatten(SelfComposedDpEvent(event, count)) == flatten(ComposedDpEvent([event] * count))


@given(multipliers=st.lists(MULTIPLIERS, min_size=1, max_size=5), rate=st.floats(1e-3, 1.0))
def test_gaussians_on_one_sample_are_one_gaussian(multipliers: list[float], rate: float) -> None:
    joint = ComposedDpEvent([GaussianDpEvent(z) for z in multipliers])
    (term,) = flatten(PoissonSampledDpEvent(rate, joint))
    assert term.rate == rate and term.count == 1
    assert term.noise_multiplier == pytest.approx(math.fsum(z**-2 for z in multipliers) ** -0.5)
    if len(multipliers) == 1:
        assert term.noise_multiplier == multipliers[0]


@pytest.mark.parametrize("z", [1e-200, 1e200])
def test_joint_noise_neither_underflows_nor_overflows(z: float) -> None:
    joint = SelfComposedDpEvent(GaussianDpEvent(z), 4)
    (term,) = flatten(PoissonSampledDpEvent(0.5, joint))
    assert term.noise_multiplier == pytest.approx(z / 2)


@given(event=EVENTS, z=st.sampled_from([0.0, None]))
def test_one_release_without_noise_takes_the_guarantee(event: DpEvent, z: float | None) -> None:
    bare = NonPrivateDpEvent() if z is None else GaussianDpEvent(z)
    query = PoissonSampledDpEvent(0.1, ComposedDpEvent([GaussianDpEvent(1.0), bare]))
    assert not has_guarantee(flatten(ComposedDpEvent([event, bare])))
    assert not has_guarantee(flatten(ComposedDpEvent([query, event])))


@given(event=EVENTS)
def test_an_unknown_event_is_refused_beside_any_other(event: DpEvent) -> None:
    for unknown in (LaplaceDpEvent(1.0), PoissonSampledDpEvent(0.0, LaplaceDpEvent(1.0))):
        with pytest.raises(AccountingError, match="LaplaceDpEvent"):
            flatten(ComposedDpEvent([event, SelfComposedDpEvent(unknown, 0)]))


def test_the_error_says_where() -> None:
    inner = PoissonSampledDpEvent(0.1, ComposedDpEvent([NoOpDpEvent(), LaplaceDpEvent(1.0)]))
    with pytest.raises(AccountingError) as caught:
        flatten(ComposedDpEvent([NoOpDpEvent(), SelfComposedDpEvent(inner, 3)]))
    assert caught.value.where == "event.events[1].event.event.events[1]"
    assert caught.value.got == "LaplaceDpEvent"


def test_a_deep_composition_is_no_recursion() -> None:
    """A ledger that nests what went before in every step is read without a stack."""
    event: DpEvent = NoOpDpEvent()
    for _ in range(5000):
        event = ComposedDpEvent([event, PoissonSampledDpEvent(0.1, GaussianDpEvent(2.0))])
    assert flatten(event) == (Term(0.1, 2.0, 5000),)
    with pytest.raises(AccountingError, match="LaplaceDpEvent"):
        flatten(ComposedDpEvent([LaplaceDpEvent(1.0), event]))


class Relabelled(GaussianDpEvent):
    """A subclass may mean anything."""


@pytest.mark.parametrize(
    "event",
    [
        Relabelled(1.0),
        GaussianDpEvent(-1.0),
        GaussianDpEvent(math.nan),
        GaussianDpEvent(math.inf),
        GaussianDpEvent("two"),
        GaussianDpEvent(None),
        PoissonSampledDpEvent(1.5, GaussianDpEvent(1.0)),
        PoissonSampledDpEvent(math.nan, GaussianDpEvent(1.0)),
        SelfComposedDpEvent(GaussianDpEvent(1.0), -1),
        SelfComposedDpEvent(GaussianDpEvent(1.0), 2.0),
        ComposedDpEvent(GaussianDpEvent(1.0)),
        ComposedDpEvent([None]),
        None,
    ],
    ids=repr,
)
def test_what_no_mechanism_can_have_is_refused(event: DpEvent) -> None:
    with pytest.raises(AccountingError):
        flatten(event)


def test_unsampled_gaussians_join() -> None:
    assert joined_gaussian(Term(1.0, 3.0, 9)) == Term(1.0, 1.0, 1)
    assert joined_gaussian(Term(0.5, 3.0, 9)) == Term(0.5, 3.0, 9)


@given(z=MULTIPLIERS, count=st.integers(1, 5))
def test_a_plain_gaussian_is_one_term_of_its_own_multiplier(z: float, count: int) -> None:
    assert flatten(GaussianDpEvent(z)) == (Term(1.0, z, 1),)
    assert flatten(SelfComposedDpEvent(GaussianDpEvent(z), count)) == (Term(1.0, z, count),)


@given(z=MULTIPLIERS, count=st.integers(1, 5), rate=st.floats(0.01, 0.99))
def test_only_gaussians_without_sampling_are_joined(z: float, count: int, rate: float) -> None:
    assert joined_gaussian(Term(1.0, z, count)) == Term(1.0, z / math.sqrt(count), 1)
    assert joined_gaussian(Term(rate, z, count)) == Term(rate, z, count)


def test_a_term_is_nothing_to_assign_to() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Term(1.0, 1.0, 1).count = 2  # type: ignore[misc]  # what must not work


def test_a_sample_or_noise_out_of_range_says_what_is_allowed() -> None:
    with pytest.raises(AccountingError, match=r"0 ≤ q ≤ 1"):
        flatten(PoissonSampledDpEvent(1.5, GaussianDpEvent(1.0)))
    with pytest.raises(AccountingError, match="finite and ≥ 0"):
        flatten(GaussianDpEvent(-1.0))
