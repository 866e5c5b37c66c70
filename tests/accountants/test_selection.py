"""The best of a random number of trials: laws, reference values, refusals, distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.rdp import RdpAccountant
from dp_accounting.rdp import rdp_privacy_accountant as library
from dpigu.accountants import Trials, cheapest_trials, get_accountant, tuned_epsilon
from dpigu.accountants.selection import GEOMETRIC, LOGARITHMIC, POISSON
from dpigu.dpcore.errors import AccountingError
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.accountants.cases import steps

DELTA = 1e-5
RUN = steps(1000 / 60000, 1.1354, 500)
"""One run of ε = 2 by RDP."""
NAMED = (LOGARITHMIC, GEOMETRIC, POISSON)
FINITE = (0.0, 0.5, 1.0, 3.0)


def base(*events: DpEvent) -> float:
    """ε by RDP of what is released without a choice."""
    value = get_accountant("rdp").epsilon(ComposedDpEvent(list(events)), DELTA).value
    assert value is not None
    return value


def tuned(trial: DpEvent, final: DpEvent | None, trials: Trials, score: DpEvent | None = None):
    """The claimed ε, which must be there."""
    value = tuned_epsilon(trial, final, DELTA, trials=trials, score=score).value
    assert value is not None
    return value


# Laws -----------------------------------------------------------------------------------------

shapes = st.one_of(st.sampled_from([*NAMED]), st.floats(0.01, 6.0))


@given(shape=shapes, mean=st.floats(1.0, 80.0), more=st.floats(1.0, 3.0), z=st.floats(0.8, 30.0))
def test_more_trials_never_cost_less(shape, mean, more, z) -> None:
    few, many = Trials(mean, shape), Trials(mean * more, shape)
    trial = GaussianDpEvent(z)
    assert tuned(trial, trial, few) <= tuned(trial, trial, many) + 1e-6


@given(shape=shapes, mean=st.floats(1.0, 80.0), less=st.floats(0.3, 1.0), z=st.floats(0.8, 30.0))
def test_a_dearer_trial_or_final_run_never_costs_less(shape, mean, less, z) -> None:
    trials = Trials(mean, shape)
    trial, dearer = GaussianDpEvent(z), GaussianDpEvent(z * less)
    least = tuned(trial, trial, trials)
    assert least <= tuned(dearer, trial, trials) + 1e-9
    assert least <= tuned(trial, dearer, trials) + 1e-9


@given(shape=shapes, mean=st.floats(1.0, 80.0), z=st.floats(0.8, 30.0))
def test_the_choice_costs_more_than_its_best_trial(shape, mean, z) -> None:
    trial = GaussianDpEvent(z)
    assert tuned(trial, None, Trials(mean, shape)) > base(trial)
    assert tuned(trial, trial, Trials(mean, shape)) > base(trial, trial)


@pytest.mark.parametrize("shape", FINITE)
def test_one_trial_costs_one_run_and_the_slack_of_the_theorem(shape: float) -> None:
    """At mean 1 the theorem leaves (1 + η)(1 − 1/α̂) r(α̂), at the smallest order 1.1."""
    accountant = RdpAccountant().compose(RUN)
    order, rdp = accountant.orders[0], accountant.rdp[0]
    slack = (1 + shape) * (1 - 1 / order) * rdp
    claimed = tuned(RUN, None, Trials(1.0, shape))
    assert claimed == pytest.approx(base(RUN) + slack, abs=1e-6)
    assert slack < 0.02 * (1 + shape)


@pytest.mark.parametrize("shape", NAMED)
def test_many_trials_cost_far_less_than_their_composition(shape: float) -> None:
    every_one = base(SelfComposedDpEvent(RUN, 100), RUN)
    assert tuned(RUN, RUN, Trials(100.0, shape)) < 0.7 * every_one


def test_a_validation_record_pays_for_scores_and_the_final_run_alone() -> None:
    trials = Trials(4.0, POISSON)
    cheap, dear = GaussianDpEvent(10.0), GaussianDpEvent(0.5)
    assert tuned(RUN, RUN, trials, cheap) == tuned(RUN, RUN, trials)
    assert tuned(RUN, RUN, trials, dear) == tuned(dear, RUN, trials)
    assert tuned(RUN, RUN, trials, dear) > tuned(RUN, RUN, trials) + 1


def test_the_cheapest_distribution_is_the_cheapest_of_those_with_a_name() -> None:
    """For four trials it is Poisson, for thirty the logarithmic one."""
    for mean, shape in ((4.0, POISSON), (30.0, LOGARITHMIC)):
        found = cheapest_trials(RUN, RUN, DELTA, mean=mean)
        assert found == Trials(mean, shape)
        assert tuned(RUN, RUN, found) == min(tuned(RUN, RUN, Trials(mean, s)) for s in NAMED)


def test_a_dear_score_decides_which_distribution_is_cheapest() -> None:
    """Four trials of σ = 50 are cheaper with Poisson, four scores of σ = 0.5 are not."""
    trial, score = GaussianDpEvent(50.0), GaussianDpEvent(0.5)
    assert cheapest_trials(trial, None, DELTA).shape == POISSON
    assert cheapest_trials(trial, None, DELTA, score=score).shape == LOGARITHMIC
    unless_told = tuned_epsilon(trial, None, DELTA, score=score).value
    assert unless_told == tuned(trial, None, Trials(4.0, LOGARITHMIC), score)


def test_the_final_run_decides_too() -> None:
    """σ = 2: the logarithmic distribution, but Poisson where a final run of σ = 1 follows."""
    trial, final = GaussianDpEvent(2.0), GaussianDpEvent(1.0)
    assert cheapest_trials(trial, None, DELTA).shape == LOGARITHMIC
    assert cheapest_trials(trial, final, DELTA).shape == POISSON
    unless_told = tuned_epsilon(trial, final, DELTA).value
    assert unless_told == tuned(trial, final, Trials(4.0, POISSON))


# Reference values and the library's limits ----------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "best_trial", "with_final"),
    [(LOGARITHMIC, 3.0025, 3.8140), (GEOMETRIC, 3.3890, 4.2006), (POISSON, 2.9354, 3.7063)],
)
def test_reference_values(shape: float, best_trial: float, with_final: float) -> None:
    """q = 1000/60000, σ = 1.1354, T = 500, δ = 1e-5, mean 4: dp-accounting 0.6 called directly."""
    trials = Trials(4.0, shape)
    accountant = RdpAccountant().compose(RepeatAndSelectDpEvent(RUN, 4.0, shape)).compose(RUN)
    assert tuned(RUN, RUN, trials) == pytest.approx(accountant.get_epsilon(DELTA), abs=1e-6)
    assert tuned(RUN, RUN, trials) == pytest.approx(with_final, abs=1e-4)
    assert tuned(RUN, None, trials) == pytest.approx(best_trial, abs=1e-4)


def test_four_trials_unless_told() -> None:
    answer = tuned_epsilon(RUN, RUN, DELTA)
    assert answer.value == tuned(RUN, RUN, Trials(4.0, POISSON))
    assert answer.accountant == "rdp"
    assert "Poisson (mean 4)" in answer.note


@pytest.mark.parametrize("shape", NAMED)
def test_a_trial_that_costs_next_to_nothing_is_charged(shape: float) -> None:
    """dp-accounting itself stops with a domain error there, for Poisson."""
    free, run = GaussianDpEvent(1e12), GaussianDpEvent(3.0)
    claimed = tuned(free, run, Trials(4.0, shape))
    assert base(run) < claimed < base(run) + 0.5


@pytest.mark.parametrize("place", ["trial", "final", "score"])
@pytest.mark.parametrize("silent", [NonPrivateDpEvent(), GaussianDpEvent(0.0)])
def test_without_noise_anywhere_there_is_no_guarantee(place: str, silent: DpEvent) -> None:
    events = {"trial": RUN, "final": RUN, "score": GaussianDpEvent(10.0)} | {place: silent}
    trial, final, score = events.values()
    answer = tuned_epsilon(trial, final, DELTA, score=score)
    assert answer.value is None
    assert "no guarantee" in answer.note


@pytest.mark.parametrize("place", ["trial", "final", "score"])
def test_an_event_that_no_accountant_knows_is_refused(place: str) -> None:
    events = {"trial": RUN, "final": RUN, "score": RUN} | {place: LaplaceDpEvent(1.0)}
    trial, final, score = events.values()
    with pytest.raises(AccountingError, match="LaplaceDpEvent"):
        tuned_epsilon(trial, final, DELTA, score=score)


@pytest.mark.parametrize("mean", [0.0, 0.999, 1.1e6, math.inf, math.nan])
def test_a_mean_that_cannot_be_charged_is_refused(mean: float) -> None:
    with pytest.raises(AccountingError, match="mean number of trials"):
        Trials(mean, POISSON)


@pytest.mark.parametrize("shape", [-0.5, -math.inf, math.nan])
def test_a_shape_that_cannot_be_charged_is_refused(shape: float) -> None:
    with pytest.raises(AccountingError, match="shape"):
        Trials(4.0, shape)


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
def test_a_delta_that_says_nothing_is_refused(delta: float) -> None:
    with pytest.raises(AccountingError, match="δ"):
        tuned_epsilon(RUN, RUN, delta)


# Distributions --------------------------------------------------------------------------------


@given(shape=shapes, mean=st.floats(1.0, 30.0))
def test_the_probabilities_add_up_to_one_and_to_the_mean(shape: float, mean: float) -> None:
    """With γ ≥ 1/(2 · 30 · ln 30), 7000 terms leave less than 1e-12."""
    trials = Trials(mean, shape)
    found = [trials.probability(k) for k in range(7000)]
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-9)
    assert math.fsum(k * p for k, p in enumerate(found)) == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("mean", [1.5, 4.0, 20.0])
def test_the_distributions_are_the_ones_that_have_the_names(mean: float) -> None:
    """scipy's logser, geom and poisson, and its nbinom where it is not 0."""
    k = np.arange(1, 60)

    def found(shape: float) -> list[float]:
        return [Trials(mean, shape).probability(int(n)) for n in k]

    gamma = Trials(mean, LOGARITHMIC).gamma
    assert gamma is not None
    assert found(LOGARITHMIC) == pytest.approx(stats.logser.pmf(k, 1 - gamma), rel=1e-9)
    assert found(GEOMETRIC) == pytest.approx(stats.geom.pmf(k, 1 / mean), rel=1e-9)
    assert found(POISSON) == pytest.approx(stats.poisson.pmf(k, mean), rel=1e-9)
    assert Trials(mean, POISSON).probability(0) == pytest.approx(math.exp(-mean))
    positive = stats.nbinom(2.5, Trials(mean, 2.5).gamma)
    assert found(2.5) == pytest.approx(positive.pmf(k) / positive.sf(0), rel=1e-9)


@given(shape=st.one_of(st.just(0.0), st.floats(0.01, 20.0)), mean=st.floats(1.01, 1e6))
def test_the_library_charges_the_gamma_that_is_told(shape: float, mean: float) -> None:
    assert Trials(mean, shape).gamma == pytest.approx(
        library._gamma_truncated_negative_binomial(shape, mean), rel=1e-7
    )


def test_a_distribution_says_what_it_is() -> None:
    assert str(Trials(4.0, POISSON)) == "Poisson (mean 4)"
    assert str(Trials(4.0, GEOMETRIC)) == "geometric (η = 1, γ = 0.25, mean 4)"
    assert str(Trials(4.0, LOGARITHMIC)).startswith("logarithmic (η = 0, γ = 0.0966")
    assert Trials(4.0, 2.0).name == "truncated negative binomial"
    assert Trials(1.0, 2.0).probability(-1) == 0
