"""ε of a person with several records: against dp_accounting itself, and at exact corners."""

from __future__ import annotations

import pytest
from dp_accounting import (
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dpigu.accountants import get_accountant, group_epsilon, group_event
from dpigu.accountants.group import binomial
from dpigu.dpcore import AccountingError

DELTA = 1e-5


def steps(rate: float, sigma: float, count: int) -> DpEvent:
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), count)


def test_it_is_the_mixture_of_gaussians_of_dp_accounting() -> None:
    """The same event by the library alone; ours lies above, by its coarser grid and no more."""
    event = steps(0.05, 2.0, 50)
    alone = PLDAccountant(value_discretization_interval=1e-3)
    alone.compose(group_event(event, 3))
    ours = group_epsilon(event, 3, DELTA).value
    assert ours is not None
    assert ours == pytest.approx(alone.get_epsilon(DELTA), rel=5e-3)


def test_one_record_a_person_is_the_ordinary_event() -> None:
    event = steps(0.05, 2.0, 50)
    assert group_epsilon(event, 1, DELTA) == get_accountant("pld").epsilon(event, DELTA)


def test_without_sampling_it_is_a_gaussian_of_sensitivity_k() -> None:
    """σ/k in place of σ, exactly composed: σ/(k√T)."""
    exact = get_accountant("pld").epsilon(GaussianDpEvent(8.0 / (4 * 10**0.5)), DELTA).value
    assert group_epsilon(steps(1.0, 8.0, 10), 4, DELTA).value == pytest.approx(exact, rel=1e-3)


def test_a_person_is_dearer_than_a_record_and_cheaper_than_k_in_every_batch() -> None:
    event, always = steps(0.1, 3.0, 20), steps(1.0, 3.0, 20)
    found = [group_epsilon(event, k, DELTA).value for k in (1, 2, 4)]
    most = group_epsilon(always, 4, DELTA).value
    assert most is not None and all(value is not None for value in found)
    assert found == sorted(found) and found[-1] < most


def test_binomial_probabilities_are_whole_and_rare_ones_count_as_all() -> None:
    for records, rate in ((3, 0.25), (40, 0.01), (500, 0.001)):
        sensitivities, probabilities = binomial(records, rate)
        assert sum(probabilities) == pytest.approx(1.0, abs=1e-12)
        assert sensitivities[-1] == records
        mean = sum(j * p for j, p in zip(sensitivities, probabilities, strict=True))
        assert mean == pytest.approx(records * rate, rel=1e-9)
    assert binomial(3, 0.25)[1] == pytest.approx((27 / 64, 27 / 64, 9 / 64, 1 / 64))


@pytest.mark.parametrize("records", [0, -1, 2.0, True])
def test_a_number_of_records_that_nobody_has_is_refused(records: int) -> None:
    with pytest.raises(AccountingError):
        group_epsilon(steps(0.1, 1.0, 2), records, DELTA)


def test_what_no_accountant_knows_is_refused() -> None:
    with pytest.raises(AccountingError):
        group_epsilon(LaplaceDpEvent(1.0), 2, DELTA)
