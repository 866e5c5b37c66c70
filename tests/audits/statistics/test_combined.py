"""Two tests share one confidence: what each may contradict, and how often it does so wrongly."""

from __future__ import annotations

import dp_accounting
import numpy as np
import pytest
from dpigu.audits import (
    Verdict,
    accounted_curve,
    combined_test,
    gaussian_tradeoff,
    guess_grid,
    judge,
)
from dpigu.audits.statistics.combined import OWN, CombinedTest
from dpigu.dpcore import Adjacency, PoissonSampler

M = 500


def gaussian_event(sigma: float) -> dp_accounting.DpEvent:
    return PoissonSampler(1.0, 100).event(dp_accounting.GaussianDpEvent(sigma))


ONE_GDP = accounted_curve(gaussian_event(1.0), Adjacency.ADD_OR_REMOVE_ONE)


def decided(mu: float, seed: int, epsilon: float = 4.3772) -> CombinedTest:
    """Canaries under exact μ-GDP, tested against 1-GDP's curve and its ε at δ = 1e-5."""
    draw = np.random.default_rng(seed)
    coins = draw.integers(0, 2, M)
    scores = mu * coins + draw.normal(size=M)
    return combined_test(
        scores, coins, guess_grid(M), epsilon=epsilon, delta=1e-5, confidence=0.95, own=ONE_GDP
    )


def test_the_accountants_curve_lies_below_the_true_one_and_close() -> None:
    """1-GDP, whose curve is known: never above it, and nowhere more than 0.005 below."""
    assert ONE_GDP is not None and ONE_GDP.name == OWN
    true = gaussian_tradeoff(1.0)
    gaps = [true(a) - ONE_GDP(a) for a in np.linspace(0.001, 0.999, 99)]
    assert min(gaps) > -1e-9 and max(gaps) < 0.005


def test_it_is_symmetric_as_adding_and_removing_are() -> None:
    event = dp_accounting.SelfComposedDpEvent(
        PoissonSampler(0.05, 1000).event(dp_accounting.GaussianDpEvent(0.8)), 50
    )
    curve = accounted_curve(event, Adjacency.ADD_OR_REMOVE_ONE)
    assert curve is not None
    for alpha in np.linspace(0.01, 0.99, 25):
        assert curve(curve(alpha)) <= alpha + 1e-6


def test_what_guarantees_nothing_has_no_curve() -> None:
    event = dp_accounting.NonPrivateDpEvent()
    assert accounted_curve(event, Adjacency.ADD_OR_REMOVE_ONE) is None


def test_too_little_noise_contradicts_the_accounting_before_the_claim() -> None:
    """μ = 4 under a curve of μ = 1: ε alone at δ = 1e-5 says too little to be contradicted.

    The curve is not, at μ = 2: a mechanism may leak everything with a small probability.
    """
    assert decided(2.0, seed=1).f_dp.p_value > 0.05
    made = decided(4.0, seed=1)
    assert made.one_run.p_value > 0.1 and made.f_dp.p_value < 0.01
    assert made.against == OWN
    report = judge(
        claim_epsilon=4.3772,
        delta=1e-5,
        p_value=made.p_value,
        lower_bound=made.one_run.lower_bound,
        ceiling=made.one_run.ceiling,
        confidence=0.95,
        against=made.against,
    )
    assert report.verdict is Verdict.CONTRADICTED
    assert OWN in report.sentence and "by itself" in report.sentence


def test_a_claim_that_falls_alone_is_named_itself() -> None:
    made = decided(4.0, seed=1, epsilon=0.5)
    assert made.one_run.p_value < 0.01 and made.against == ""


def test_a_true_accounting_is_contradicted_in_at_most_5_percent_of_audits() -> None:
    """40 audits at the curve's own μ; more than 7 would be a chance of 0.2% at a true 5%."""
    false = sum(decided(1.0, seed=s).p_value < 0.05 for s in range(40))
    assert false <= 7


def test_without_a_curve_of_its_own_the_claim_is_tested_twice() -> None:
    draw = np.random.default_rng(0)
    coins = draw.integers(0, 2, M)
    made = combined_test(
        10.0 * coins, coins, guess_grid(M), epsilon=1.0, delta=1e-5, confidence=0.95, own=None
    )
    assert made.p_value < 0.01 and made.against == ""
    assert made.one_run.confidence == pytest.approx(0.975)
