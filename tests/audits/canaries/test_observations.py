"""Observations weighed by their own spread: what noise is missing shows, and honest runs stay."""

from __future__ import annotations

import numpy as np
import pytest
from dpigu.audits.canaries.observations import increment
from dpigu.audits.statistics import WITH_SPREAD

from benchmarks.audits.canary_weights import EPSILON, PLANTED, RATE, SIGMA, bound_of, observed

HONEST = "honest"


@pytest.mark.parametrize("planted", [n for n in PLANTED if n not in (HONEST, "85% of the noise")])
def test_steps_and_pools_without_noise_stand_out(planted: str) -> None:
    """Each is told by its spread; where every canary is seen through, by the bound as well."""
    seen, coins = observed(np.random.default_rng(3), PLANTED[planted])
    assert seen.spread_p_value() < 0.05 * WITH_SPREAD["spread"] * 1e-3
    before = bound_of(increment(seen.o_Tm, RATE, SIGMA).sum(0), coins)
    after = bound_of(seen.scores(), coins)
    assert after >= before
    if "coordinates" not in planted:
        assert before < EPSILON < after


def test_an_honest_run_is_weighed_by_the_noise_that_it_claims() -> None:
    seen, _ = observed(np.random.default_rng(5), PLANTED[HONEST])
    claimed = increment(seen.o_Tm, RATE, SIGMA).sum(0)
    assert np.mean(seen.spread_Tm() == SIGMA) > 0.99
    assert np.corrcoef(seen.scores(), claimed)[0, 1] > 0.999


def test_sampled_canaries_are_told_by_steps_without_noise() -> None:
    seen, coins = observed(
        np.random.default_rng(7), PLANTED["no noise on every second step"], rate=0.1, sigma=3.0
    )
    assert bound_of(seen.scores(), coins) > EPSILON


def test_the_spreads_p_value_is_no_smaller_than_it_should_be() -> None:
    """1,000 small honest runs: under a tenth at 0.1, with room for chance (4 deviations)."""
    draw, below = np.random.default_rng(11), 0
    for _ in range(1000):
        seen, _ = observed(draw, PLANTED[HONEST], canaries=20, steps=10, sigma=4.0)
        below += seen.spread_p_value() < 0.1
    assert below < 100 + 4 * np.sqrt(1000 * 0.1 * 0.9)


def test_observations_that_are_no_numbers_test_nothing() -> None:
    seen, _ = observed(np.random.default_rng(13), PLANTED[HONEST], canaries=10, steps=4)
    seen.o_Tm[1, 2] = np.nan
    assert seen.spread_p_value() == 1.0
    assert np.isnan(seen.scores()).any()
