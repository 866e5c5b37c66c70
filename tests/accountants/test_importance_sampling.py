"""Importance sampling, charged rigorously, has the noise of a larger uniform batch.

The mathematics of docs/importance-sampling.md.
"""

from __future__ import annotations

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dpigu.accountants import calibrate_noise_multiplier, get_accountant
from dpigu.dpcore import Adjacency
from hypothesis import given
from hypothesis import strategies as st

RECORDS, STEPS, EPSILON, DELTA = 10_000, 200, 2.0, 1e-5


def event(rate: float, noise_multiplier: float, steps: int = STEPS) -> SelfComposedDpEvent:
    return SelfComposedDpEvent(
        PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier)), steps
    )


def epsilon(rate: float, noise_multiplier: float) -> float:
    return get_accountant("rdp").epsilon(event(rate, noise_multiplier), DELTA).value


def sigma(rate: float) -> float:
    return calibrate_noise_multiplier(
        lambda z: event(rate, z), EPSILON, DELTA, "rdp", Adjacency.ADD_OR_REMOVE_ONE
    )


@given(rate=st.floats(0.001, 0.5), share=st.floats(0.01, 1.0), noise_multiplier=st.floats(0.7, 5.0))
def test_a_record_that_is_drawn_less_often_is_never_charged_more(rate, share, noise_multiplier):
    assert epsilon(share * rate, noise_multiplier) <= epsilon(rate, noise_multiplier) * (1 + 1e-9)


@pytest.mark.parametrize("mean_share", [1.0, 0.5, 0.25])
def test_its_noise_is_that_of_a_larger_uniform_batch(mean_share):
    """b = 200 drawn by importance, clipping norm 1, mean norm m: uniform at b/m."""
    b, clipping_norm = 200.0, 1.0
    total = RECORDS * mean_share * clipping_norm
    largest_rate = b * clipping_norm / total
    by_importance = sigma(largest_rate) * (total / b) / RECORDS
    batch = b / mean_share
    uniform = sigma(batch / RECORDS) * clipping_norm / batch
    assert by_importance == pytest.approx(uniform, rel=1e-3)


def test_the_mean_rate_would_undercharge():
    """At mean norms of C/4 the largest rate is four times the mean one, and so much dearer."""
    rate = 0.02
    honest, flattering = epsilon(4 * rate, 1.5), epsilon(rate, 1.5)
    assert honest > 2 * flattering
