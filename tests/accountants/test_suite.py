"""One suite for all accountants: each law must hold for each, and stop its mutants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from dp_accounting import (
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    UnsupportedDpEvent,
)
from dpigu.accountants import ACCOUNTANTS, Accountant, Epsilon, get_accountant
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import AccountingError

from tests.accountants.cases import (
    AccountantMutant,
    Lenient,
    changed,
    first_phase,
    last_count_squared,
    phases,
    steps,
    without_non_private,
)

DELTA = 1e-5
PRETRAINING, MAIN = steps(0.02, 1.2, 60), steps(1 / 60, 2.0, 200)
UNKNOWN: tuple[DpEvent, ...] = (
    UnsupportedDpEvent(),
    LaplaceDpEvent(3.0),
    PoissonSampledDpEvent(0.1, LaplaceDpEvent(3.0)),
    PoissonSampledDpEvent(0.1, PoissonSampledDpEvent(0.1, GaussianDpEvent(1.0))),
)


_ANSWERS: dict[tuple[Accountant, str, float], Epsilon] = {}


def answer(accountant: Accountant, event: DpEvent, delta: float = DELTA) -> Epsilon:
    """The accountant's answer, computed once in this file: PRV takes a second."""
    key = (accountant, repr(event), delta)
    if key not in _ANSWERS:
        _ANSWERS[key] = accountant.epsilon(event, delta)
    return _ANSWERS[key]


def value(accountant: Accountant, event: DpEvent, delta: float = DELTA) -> float:
    """The claimed ε, which must be there."""
    claimed = answer(accountant, event, delta).value
    assert claimed is not None
    return claimed


def error(accountant: Accountant, event: DpEvent) -> float:
    """The accountant's stated numerical error: the width of its interval, or rounding."""
    lower = answer(accountant, event).lower
    return 1e-7 if lower is None else value(accountant, event) - lower


def assert_grows(accountant: Accountant, chain: list[DpEvent]) -> None:
    """ε grows along a chain, within the stated error, and in fact over the whole of it."""
    for less, more in pairwise(chain):
        assert value(accountant, less) <= value(accountant, more) + error(accountant, more)
    assert value(accountant, chain[0]) < value(accountant, chain[-1])


def law_free_costs_nothing(accountant: Accountant) -> None:
    for event in (
        NoOpDpEvent(),
        phases(),
        steps(0.0, 1.0, 10),
        steps(0.1, 1.0, 0),
        SelfComposedDpEvent(NonPrivateDpEvent(), 0),
        PoissonSampledDpEvent(0.3, NoOpDpEvent()),
    ):
        assert value(accountant, event) == 0.0


def law_no_noise_is_no_guarantee(accountant: Accountant) -> None:
    for leaf in (NonPrivateDpEvent(), GaussianDpEvent(0.0), steps(0.01, 0.0)):
        nothing = answer(accountant, phases(MAIN, leaf))
        assert nothing.value is None
        assert "no guarantee" in nothing.note


def law_unknown_is_refused_at_any_depth(accountant: Accountant) -> None:
    for leaf in UNKNOWN:
        event = leaf
        for depth in range(40):
            wrap = phases(NoOpDpEvent(), event) if depth % 2 else SelfComposedDpEvent(event, 2)
            event = wrap
            with pytest.raises(AccountingError, match="event"):
                accountant.epsilon(event, DELTA)
    with pytest.raises(AccountingError, match="LaplaceDpEvent"):
        accountant.epsilon(SelfComposedDpEvent(LaplaceDpEvent(1.0), 0), DELTA)


def law_delta_is_a_probability(accountant: Accountant) -> None:
    for delta in (0.0, 1.0, -1e-5, math.nan, math.inf):
        with pytest.raises(AccountingError, match="delta"):
            accountant.epsilon(MAIN, delta)


def law_relation_is_known_or_refused(accountant: Accountant) -> None:
    for relation in ("add-or-remove-one", "replace-one", "zero-out"):
        if relation in accountant.adjacencies:
            related = accountant.epsilon(GaussianDpEvent(3.0), DELTA, Adjacency(relation))
            sensitivity = 2 if relation == "replace-one" else 1
            same = value(accountant, GaussianDpEvent(3.0 / sensitivity))
            assert related.value == pytest.approx(same, rel=1e-3)
        else:
            with pytest.raises(AccountingError, match="relation"):
                accountant.epsilon(MAIN, DELTA, relation)  # type: ignore[arg-type]  # on purpose


def law_grows_with_steps(accountant: Accountant) -> None:
    assert_grows(accountant, [steps(1 / 60, 2.0, n) for n in (1, 200, 201, 600)])


def law_grows_with_rate(accountant: Accountant) -> None:
    assert_grows(accountant, [steps(q, 2.0, 200) for q in (1e-3, 1 / 60, 0.0167, 1.0)])


def law_falls_with_noise(accountant: Accountant) -> None:
    assert_grows(accountant, [steps(1 / 60, z, 200) for z in (20.0, 2.0, 1.99, 0.8)])


def law_adding_a_query_costs(accountant: Accountant) -> None:
    chain = [MAIN]
    for query in (30.0, 5.0):
        joint = phases(GaussianDpEvent(2.0), GaussianDpEvent(query))
        chain.append(SelfComposedDpEvent(PoissonSampledDpEvent(1 / 60, joint), 200))
    assert_grows(accountant, chain)


def law_order_does_not_matter(accountant: Accountant) -> None:
    parts = [PRETRAINING, MAIN]
    assert len({value(accountant, phases(*order)) for order in (parts, parts[::-1])}) == 1


def law_phases_compose(accountant: Accountant) -> None:
    both = value(accountant, phases(PRETRAINING, MAIN))
    apart = [value(accountant, event, DELTA / 2) for event in (PRETRAINING, MAIN)]
    assert max(value(accountant, PRETRAINING), value(accountant, MAIN)) < both < sum(apart)
    halves = phases(PRETRAINING, phases(steps(1 / 60, 2.0, 150)), steps(1 / 60, 2.0, 50))
    assert value(accountant, halves) == both


def law_rdp_is_above_and_pld_below(accountant: Accountant) -> None:
    for event in (MAIN, phases(PRETRAINING, MAIN), steps(0.1, 300.0, 5)):
        claimed = value(accountant, event)
        assert claimed >= value(get_accountant("pld"), event)
        assert claimed <= value(get_accountant("rdp"), event) + error(accountant, event)


def law_answer_is_well_formed(accountant: Accountant) -> None:
    for event in (MAIN, phases(PRETRAINING, MAIN), GaussianDpEvent(5.0)):
        got = answer(accountant, event)
        assert got.accountant in ACCOUNTANTS
        assert bool(got.note) == (got.accountant != accountant.name)
        if got.lower is not None and got.estimate is not None:
            assert 0 <= got.lower <= got.estimate <= value(accountant, event) < math.inf


LAWS: tuple[Callable[[Accountant], None], ...] = (
    law_free_costs_nothing,
    law_no_noise_is_no_guarantee,
    law_unknown_is_refused_at_any_depth,
    law_delta_is_a_probability,
    law_relation_is_known_or_refused,
    law_grows_with_steps,
    law_grows_with_rate,
    law_falls_with_noise,
    law_adding_a_query_costs,
    law_order_does_not_matter,
    law_phases_compose,
    law_rdp_is_above_and_pld_below,
    law_answer_is_well_formed,
)


@pytest.mark.parametrize("name", ACCOUNTANTS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_law(law: Callable[[Accountant], None], name: str) -> None:
    law(get_accountant(name))


def _scaled(factor: float) -> Callable[[Epsilon, DpEvent], Epsilon]:
    def scale(epsilon: Epsilon, event: DpEvent) -> Epsilon:
        return replace(epsilon, value=None if epsilon.value is None else factor * epsilon.value)

    return scale


MUTANTS: dict[Callable[[Accountant], None], Accountant] = {
    law_free_costs_nothing: AccountantMutant(
        "rdp", answer=lambda e, _: replace(e, value=e.value or 1e-9)
    ),
    law_no_noise_is_no_guarantee: AccountantMutant("rdp", read=without_non_private),
    law_unknown_is_refused_at_any_depth: Lenient("rdp"),
    law_delta_is_a_probability: Lenient("rdp"),
    law_relation_is_known_or_refused: Lenient("rdp"),
    law_grows_with_steps: AccountantMutant("rdp", read=changed(count=lambda term: 100)),
    law_grows_with_rate: AccountantMutant("rdp", read=changed(rate=lambda term: 0.02)),
    law_falls_with_noise: AccountantMutant("rdp", read=changed(noise_multiplier=lambda term: 2.0)),
    law_adding_a_query_costs: AccountantMutant(
        "rdp", read=changed(noise_multiplier=lambda term: 2.0)
    ),
    law_order_does_not_matter: AccountantMutant("rdp", read=last_count_squared),
    law_phases_compose: AccountantMutant("rdp", read=first_phase),
    law_rdp_is_above_and_pld_below: AccountantMutant("rdp", answer=_scaled(0.5)),
    law_answer_is_well_formed: AccountantMutant("prv"),
}


def test_every_law_has_a_mutant() -> None:
    assert set(MUTANTS) == set(LAWS)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_law_stops_its_mutant(law: Callable[[Accountant], None]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        law(MUTANTS[law])
