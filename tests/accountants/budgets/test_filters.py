"""Filters keep (ε, δ) whatever is chosen next; each law stops the mistakes planted for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from dpigu.accountants import get_accountant
from dpigu.accountants.budgets.filters import (
    DeclaredReleases,
    Filter,
    RenyiFilter,
    counts_of,
    event_of,
    terms_of,
)
from dpigu.accountants.events import Term, flatten
from dpigu.accountants.renyi_orders.rdp import composed_rdp
from dpigu.dpcore.errors import BudgetError, DpiguError
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from tests.accountants.cases import steps

RDP = get_accountant("rdp")
PLD = get_accountant("pld")
TERMS = st.builds(
    Term,
    st.sampled_from([0.01, 1 / 60, 0.2, 1.0]),
    st.sampled_from([0.7, 1.0, 2.5, 20.0]),
    st.integers(1, 400),
)
BUDGETS = st.tuples(st.sampled_from([0.5, 1.0, 4.0, 10.0]), st.sampled_from([1e-3, 1e-5, 1e-8]))


def several(term: Term, count: int) -> tuple[Term, ...]:
    return (replace(term, count=term.count * count),)


def law_equal_runs_fit_as_rdp_says(
    make: type[RenyiFilter], term: Term, runs: int, delta: float, factor: float
) -> None:
    """One run, or several equal ones, fit a budget exactly where RDP accounting says so."""
    of_all = RDP.epsilon(event_of(several(term, runs)), delta).value
    assert of_all is not None
    assume(of_all > 0.01)
    filter = make(factor * of_all, delta).prepared((term,))
    assert (filter.share(several(term, runs)) <= 1) == (factor > 1)


def law_gaussians_chosen_late_keep_delta(
    make: type[RenyiFilter], multipliers: list[float], budget: tuple[float, float]
) -> None:
    """Any Gaussians that fit together have an exact δ(ε) of at most δ.

    n Gaussians of multipliers z_i are one of μ = √Σ z_i⁻²:
    δ(ε) = Φ(−ε/μ + μ/2) − e^ε Φ(−ε/μ − μ/2) (Balle and Wang 2018, Theorem 8).
    """
    epsilon, delta = budget
    filter: Filter = make(epsilon, delta)
    taken: tuple[Term, ...] = ()
    for z in multipliers:
        filter = filter.prepared((Term(1.0, z, 1),))
        wanted = terms_of(counts_of((*taken, Term(1.0, z, 1))))
        if filter.share(wanted) <= 1:
            taken = wanted
    mu = math.sqrt(sum(t.count / t.noise_multiplier**2 for t in taken))
    if mu == 0:
        return
    exact = norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * norm.cdf(-epsilon / mu - mu / 2)
    assert exact <= delta


def law_more_takes_more(make: type[RenyiFilter], terms: list[Term], more: Term) -> None:
    """Whatever is added takes a larger share, and parts add up."""
    filter = make(4.0, 1e-5).prepared((terms[0],))
    less, extra = terms_of(counts_of(terms)), (more,)
    both = terms_of(counts_of((*terms, more)))
    assert filter.share(less) < filter.share(both)
    assert filter.share(both) == pytest.approx(filter.share(less) + filter.share(extra))


def law_the_order_stays(make: type[RenyiFilter], first: Term, later: Term) -> None:
    """The order is fixed by the first mechanism: nothing that comes later moves it."""
    filter = make(4.0, 1e-5).prepared((first,))
    assert filter.prepared((later,)) == filter


Z = st.sampled_from([0.5, 1.0, 2.0, 8.0]) | st.floats(0.4, 300.0)
LAWS = {
    law_equal_runs_fit_as_rdp_says: {
        "term": TERMS,
        "runs": st.integers(1, 6),
        "delta": st.sampled_from([1e-3, 1e-5, 1e-8]),
        "factor": st.sampled_from([0.5, 0.99, 1 - 1e-6, 1 + 1e-6, 1.01, 2.0]),
    },
    law_gaussians_chosen_late_keep_delta: {
        "multipliers": st.lists(Z, min_size=1, max_size=12),
        "budget": BUDGETS,
    },
    law_more_takes_more: {"terms": st.lists(TERMS, min_size=1, max_size=3), "more": TERMS},
    law_the_order_stays: {"first": TERMS, "later": TERMS},
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_renyi_filter_keeps(law) -> None:
    given(**LAWS[law])(lambda **drawn: law(RenyiFilter, **drawn))()


@dataclass(frozen=True)
class LooseConversion(RenyiFilter):
    """Converts as if δ were the whole of 1."""

    def limit(self, order: float) -> float:
        return self.epsilon


@dataclass(frozen=True)
class BasicConversion(RenyiFilter):
    """Converts by the first, looser bound, so refuses what RDP accounting admits."""

    def limit(self, order: float) -> float:
        return self.epsilon + math.log(self.delta) / (order - 1)


@dataclass(frozen=True)
class ForgetsCounts(RenyiFilter):
    """Charges every mechanism once."""

    def share(self, terms: tuple[Term, ...]) -> float:
        return super().share(tuple(replace(t, count=1) for t in terms))


@dataclass(frozen=True)
class OrderAnew(RenyiFilter):
    """Picks the best order anew for every mechanism."""

    def prepared(self, first: tuple[Term, ...]) -> RenyiFilter:
        return super(OrderAnew, replace(self, order=None)).prepared(first)


@pytest.mark.parametrize(
    ("law", "mutant"),
    [
        (law_equal_runs_fit_as_rdp_says, BasicConversion),
        (law_equal_runs_fit_as_rdp_says, ForgetsCounts),
        (law_gaussians_chosen_late_keep_delta, LooseConversion),
        (law_gaussians_chosen_late_keep_delta, ForgetsCounts),
        (law_more_takes_more, ForgetsCounts),
        (law_the_order_stays, OrderAnew),
    ],
    ids=lambda value: value.__name__,
)
def test_the_law_stops(law, mutant) -> None:
    """One example that fails is enough: none is shrunk."""
    quickly = settings(phases=[Phase.explicit, Phase.generate], database=None)
    with pytest.raises(AssertionError):
        quickly(given(**LAWS[law])(lambda **drawn: law(mutant, **drawn)))()


def test_no_guarantee_never_fits() -> None:
    terms = flatten(steps(0.1, 0.0, 1))
    assert RenyiFilter(4.0, 1e-5).prepared(terms).share(terms) == math.inf
    assert DeclaredReleases(4.0, 1e-5, (Term(0.1, 1.0, 5),)).share(terms) == math.inf


def test_where_a_series_does_not_converge_the_next_order_bounds_it() -> None:
    """Divergences grow with the order: σ = 0.6 at rate ½ has none of order 1.1 by the library."""
    terms = (Term(0.5, 0.6, 1),)
    at, above = (RenyiFilter(1e6, 1e-5, order=order) for order in (1.1, 2.0))
    assert not math.isfinite(composed_rdp(terms)[1][0])
    assert 0 < at.share(terms) * at.limit(1.1) <= above.share(terms) * above.limit(2.0)


def test_an_order_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(BudgetError, match="at this order"):
        RenyiFilter(0.5, 1e-8, order=1.5)
    with pytest.raises(BudgetError, match="at this order"):
        RenyiFilter(4.0, 1e-5, order=7.77)


@pytest.mark.parametrize("budget", [(-1.0, 1e-5), (1.0, 0.0), (1.0, 1.0), (math.nan, 0.1)])
def test_a_budget_that_says_nothing_is_refused(budget: tuple[float, float]) -> None:
    with pytest.raises(DpiguError):
        RenyiFilter(*budget)


DECLARED = (Term(1 / 60, 1.2, 300), Term(1.0, 8.0, 2))


def test_declared_runs_are_composed_tightly() -> None:
    pld, rdp = (
        PLD.epsilon(event_of(DECLARED), 1e-5).value,
        RDP.epsilon(event_of(DECLARED), 1e-5).value,
    )
    assert pld is not None and rdp is not None and pld < rdp
    between = (pld + rdp) / 2
    assert RenyiFilter(between, 1e-5).prepared(DECLARED).share(DECLARED) > 1
    assert DeclaredReleases.checked(between, 1e-5, DECLARED).share(DECLARED) == 1
    with pytest.raises(BudgetError, match="do not fit the budget together"):
        DeclaredReleases.checked(pld - 1e-3, 1e-5, DECLARED)


def test_only_what_was_declared_is_taken_and_only_so_often() -> None:
    filter = DeclaredReleases.checked(10.0, 1e-5, DECLARED)
    assert filter.share((Term(1 / 60, 1.2, 150),)) == 0.5
    assert filter.share((Term(1 / 60, 1.2, 301),)) > 1
    assert filter.share((Term(1 / 60, 1.3, 1),)) == math.inf
    assert filter.share((Term(1 / 50, 1.2, 1),)) == math.inf
    assert filter.share(()) == 0


@given(st.data())
def test_every_adaptive_way_through_a_declared_list_keeps_its_delta(data: st.DataObject) -> None:
    """By enumeration: an adversary takes mechanisms of a finite list in an order that depends on
    what it saw, and may stop; its δ is at most that of all of them in their own order."""
    outcomes = st.lists(st.integers(1, 6), min_size=2, max_size=3)
    pairs = [
        (tuple(p), tuple(q))
        for _ in range(3)
        for p in [data.draw(outcomes)]
        for q in [data.draw(st.lists(st.integers(1, 6), min_size=len(p), max_size=len(p)))]
    ]
    epsilon = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    choose = data.draw(st.randoms(use_true_random=False))

    def mass(pair: tuple[tuple[int, ...], tuple[int, ...]]) -> list[tuple[float, float]]:
        p, q = pair
        return [(a / sum(p), b / sum(q)) for a, b in zip(p, q, strict=True)]

    def delta(p: float, q: float, left: list[int], adaptive: bool) -> float:
        if not left or (adaptive and choose.random() < 0.1):
            return max(0.0, p - math.exp(epsilon) * q)
        j = choose.choice(left) if adaptive else left[0]
        rest = [i for i in left if i != j]
        return sum(delta(p * a, q * b, rest, adaptive) for a, b in mass(pairs[j]))

    in_order = delta(1.0, 1.0, [0, 1, 2], adaptive=False)
    assert delta(1.0, 1.0, [0, 1, 2], adaptive=True) <= in_order + 1e-12
