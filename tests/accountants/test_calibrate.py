"""Calibration is conservative in the last digit and tight, for any accountant."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from dp_accounting import DpEvent, NonPrivateDpEvent
from dpigu.accountants import calibrate_noise_multiplier, get_accountant, max_steps_within
from dpigu.accountants.calibrate import _edge, _log_ratio
from dpigu.accountants.renyi_orders.rdp import RDP
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import AccountingError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.accountants.cases import AccountantMutant, changed, phases, steps

FEW = settings(max_examples=settings.default.max_examples // 3)


def assert_smallest(
    make_event: Callable[[float], DpEvent],
    epsilon: float,
    delta: float,
    name: str,
    tolerance: float = 1e-4,
) -> float:
    """The multiplier keeps the target and one `tolerance` less does not; it is a clean decimal."""
    found = calibrate_noise_multiplier(make_event, epsilon, delta, name, tolerance=tolerance)
    spent = get_accountant(name).epsilon(make_event(found), delta).value
    less = get_accountant(name).epsilon(make_event(found - tolerance), delta).value
    assert spent is not None and less is not None
    assert spent <= epsilon < less
    assert found == round(found, 12)
    return found


@pytest.mark.parametrize(
    ("name", "epsilon", "sigma"),
    [("rdp", 4.0, 1.1935), ("rdp", 1.0, 3.4169), ("pld", 1.0, 3.1593)],
)
def test_the_papers_setting(name: str, epsilon: float, sigma: float) -> None:
    """q = 1000/60000, T = 2400, δ = 1e-5."""
    assert assert_smallest(lambda z: steps(1 / 60, z, 2400), epsilon, 1e-5, name) == sigma


@FEW
@given(
    epsilon=st.floats(0.05, 50),
    delta=st.sampled_from([1e-2, 1e-5, 1e-8, 1e-12]),
    rate=st.sampled_from([1e-3, 0.05, 1.0]),
    count=st.sampled_from([1, 100, 5000]),
)
def test_rdp_over_the_whole_range(epsilon: float, delta: float, rate: float, count: int) -> None:
    assert_smallest(lambda z: steps(rate, z, count), epsilon, delta, "rdp")


@pytest.mark.parametrize(
    ("epsilon", "delta", "rate", "count"),
    [
        (0.05, 1e-5, 1.0, 1),
        (50.0, 1e-2, 1.0, 1),
        (50.0, 1e-5, 1.0, 20),
        (0.05, 1e-2, 1 / 60, 1000),
        (0.5, 1e-12, 1 / 60, 100),
        (3.0, 1e-12, 1.0, 10),
    ],
)
def test_pld_at_the_corners(epsilon: float, delta: float, rate: float, count: int) -> None:
    assert_smallest(lambda z: steps(rate, z, count), epsilon, delta, "pld", tolerance=1e-3)


@pytest.mark.parametrize("name", ["rdp", "pld"])
def test_all_phases_are_charged(name: str) -> None:
    pretraining = steps(0.02, 4.0, 100)
    alone = assert_smallest(lambda z: steps(1 / 60, z, 300), 0.4, 1e-5, name, 1e-3)
    after = assert_smallest(
        lambda z: phases(pretraining, steps(1 / 60, z, 300)), 0.4, 1e-5, name, 1e-3
    )
    assert alone < after


def test_prv_needs_few_evaluations_and_is_never_below_pld() -> None:
    seen: list[float] = []

    def make_event(z: float) -> DpEvent:
        seen.append(z)
        return steps(0.05, z, 50)

    pld = calibrate_noise_multiplier(make_event, 0.8, 1e-5, "pld")
    by_pld = len(seen)
    prv = assert_smallest(make_event, 0.8, 1e-5, "prv")
    assert pld < prv < 1.05 * pld
    assert by_pld <= 20
    assert len(seen) - 2 * by_pld <= 10


def test_replace_one_needs_about_twice_the_noise() -> None:
    found = {
        relation: calibrate_noise_multiplier(
            lambda z: steps(0.1, z, 100), 0.5, 1e-5, "pld", relation, tolerance=1e-3
        )
        for relation in Adjacency
    }
    ratio = found[Adjacency.REPLACE_ONE] / found[Adjacency.ADD_OR_REMOVE_ONE]
    assert 1.7 < ratio < 2.3
    with pytest.raises(AccountingError, match="relation"):
        calibrate_noise_multiplier(
            lambda z: steps(0.02, z, 100), 1.0, 1e-5, "rdp", Adjacency.REPLACE_ONE
        )


@FEW
@given(tolerance=st.sampled_from([1e-2, 1e-3, 1e-4, 3e-5, 0.25]), epsilon=st.floats(0.2, 20))
def test_any_tolerance_is_kept(tolerance: float, epsilon: float) -> None:
    assert_smallest(lambda z: steps(0.01, z, 50), epsilon, 1e-5, "rdp", tolerance)


@pytest.mark.parametrize("name", ["rdp", "pld", "prv"])
@pytest.mark.parametrize("fixed", [NonPrivateDpEvent(), steps(0.5, 1.0, 10)])
def test_an_unreachable_target_is_an_error(name: str, fixed: DpEvent) -> None:
    with pytest.raises(AccountingError, match="no noise multiplier"):
        calibrate_noise_multiplier(lambda z: phases(fixed, steps(0.01, z, 20)), 0.5, 1e-5, name)


@pytest.mark.parametrize("name", ["rdp", "pld", "prv"])
def test_a_plan_that_is_free_needs_the_least_noise(name: str) -> None:
    assert calibrate_noise_multiplier(lambda z: steps(0.1, z, 0), 1.0, 1e-5, name) == 1e-4


@pytest.mark.parametrize(
    ("epsilon", "delta", "tolerance"),
    [
        (0.0, 1e-5, 1e-4),
        (-1.0, 1e-5, 1e-4),
        (math.nan, 1e-5, 1e-4),
        (math.inf, 1e-5, 1e-4),
        (1.0, 0.0, 1e-4),
        (1.0, 1.0, 1e-4),
        (1.0, math.nan, 1e-4),
        (1.0, 1e-5, 0.0),
        (1.0, 1e-5, math.nan),
    ],
)
def test_a_senseless_target_is_refused(epsilon: float, delta: float, tolerance: float) -> None:
    with pytest.raises(AccountingError):
        calibrate_noise_multiplier(
            lambda z: steps(0.1, z, 10), epsilon, delta, "rdp", tolerance=tolerance
        )


@given(steps_=st.integers(1, 3000), epsilon=st.floats(0.3, 8))
def test_the_last_step_within_the_budget(steps_: int, epsilon: float) -> None:
    def make_event(n: int) -> DpEvent:
        return phases(steps(0.02, 3.0, 10), steps(1 / 60, 1.5, n))

    def spent(n: int) -> float:
        value = RDP().epsilon(make_event(n), 1e-5).value
        assert value is not None
        return value

    if spent(0) > epsilon:
        with pytest.raises(AccountingError, match="before the first step"):
            max_steps_within(make_event, steps_, epsilon, 1e-5, "rdp")
        return
    last = max_steps_within(make_event, steps_, epsilon, 1e-5, "rdp")
    assert 0 <= last <= steps_ and spent(last) <= epsilon
    assert last == steps_ or spent(last + 1) > epsilon


@pytest.mark.parametrize("name", ["pld", "prv"])
def test_the_last_step_by_the_slower_accountants(name: str) -> None:
    def spent(n: int) -> float:
        value = get_accountant(name).epsilon(steps(0.05, 3.0, n), 1e-5).value
        assert value is not None
        return value

    last = max_steps_within(lambda n: steps(0.05, 3.0, n), 100, 0.5, 1e-5, name)
    assert 0 < last < 100 and spent(last) <= 0.5 < spent(last + 1)
    assert max_steps_within(lambda n: steps(0.05, 3.0, n), last, 0.5, 1e-5, name) == last


@given(target=st.floats(1e-3, 100))
def test_one_rounding_above_the_target_is_above(target: float) -> None:
    """ln(ε/target) rounds to 0 there, and would let ε pass."""
    assert _log_ratio(math.nextafter(target, math.inf), target) > 0
    assert _log_ratio(target, target) <= 0
    assert _log_ratio(math.nextafter(target, 0.0), target) <= 0
    assert _log_ratio(None, target) == math.inf


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(AccountingError):
        max_steps_within(lambda n: steps(0.1, 2.0, n), -1, 1.0, 1e-5, "rdp")


@given(
    edge=st.integers(1, 10**7),
    high=st.integers(1, 10**7),
    slope=st.floats(0.01, 5),
    wobble=st.floats(0, 3),
    rising=st.booleans(),
)
def test_the_search_finds_where_the_sign_changes(
    edge: int, high: int, slope: float, wobble: float, rising: bool
) -> None:
    """Whatever the size of the gap: only its sign decides, and few evaluations are made."""
    high += edge
    calls: list[int] = []

    def gap(k: int) -> float:
        calls.append(k)
        side = 1 if (k >= edge) == rising else -1
        size = abs(slope * math.log((k + 1) / (edge + 0.5))) * (1 + wobble * abs(math.sin(k)))
        return side * size

    assert _edge(gap, 0, high) == (edge - 1, edge)
    assert len(set(calls)) <= 50


def test_a_gap_of_zero_keeps_the_target() -> None:
    assert _edge(lambda k: 3.0 - k, 0, 10) == (2, 3)
    assert _edge(lambda k: k - 3.0, 0, 10) == (3, 4)


def test_the_law_of_the_smallest_multiplier_stops_a_mutant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An accountant that re-evaluates with 1% less noise than calibration saw is caught."""
    less = AccountantMutant(
        "rdp", read=changed(noise_multiplier=lambda term: 0.99 * term.noise_multiplier)
    )
    monkeypatch.setattr("tests.accountants.test_calibrate.get_accountant", lambda name: less)
    with pytest.raises(AssertionError):
        assert_smallest(lambda z: steps(0.01, z, 50), 1.0, 1e-5, "rdp")
