"""Advice: what is recommended has the power that the design before it lacked, and no less does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from dpigu.audits.advice import (
    CANARIES,
    GRADIENTS,
    LESS,
    Advice,
    crafted_gradients,
    limit_of_canaries,
    mechanism,
    more_canaries,
    more_trainings,
    needed_for_power,
)
from dpigu.audits.campaign.judged import SHARES as CAMPAIGN_SHARES
from dpigu.audits.canaries import Observations
from dpigu.audits.statistics import (
    ENOUGH,
    WITH_SPREAD,
    clopper_pearson_epsilon,
    one_run_p_value,
    spread_power,
)
from dpigu.audits.statistics.anytime import anytime_epsilon, trials_for_ceiling
from dpigu.audits.statistics.black_box import plan_black_box
from dpigu.audits.verdict import hardly

DELTA, CONFIDENCE = 1e-5, 0.95


@pytest.mark.parametrize("claim", [0.1, 2.5, 3.99977, 4.5, 8.0])
def test_the_advised_number_of_canaries_or_models_reaches_the_claim(claim: float) -> None:
    """By the plan of `dpaudit plan --black-box`, or by counts of models without an error."""
    advice = more_canaries(claim, DELTA, CONFIDENCE)
    if advice.design == "canaries":
        before = [m for m in CANARIES if m <= advice.count]
        rows = plan_black_box(
            epsilon=claim, delta=DELTA, confidence=CONFIDENCE, canaries=before[-2:]
        )
        assert not hardly(claim, rows[-1].ceiling) and rows[-1].easiest is not None
        assert len(before) == 1 or rows[0].ceiling < needed_for_power(claim)
        guesses, right = rows[-1].easiest
        assert f"{right:,} of the {guesses:,} surest" in advice.why
        p = one_run_p_value(advice.count, guesses, right, claim, DELTA)
        assert p < 0.5 * (1 - CONFIDENCE) / 11
    else:
        assert advice.design == "models"
        assert limit_of_canaries(DELTA, CONFIDENCE) < needed_for_power(claim)
        half = advice.count // 2
        assert not hardly(claim, clopper_pearson_epsilon(0, half, 0, half, DELTA, CONFIDENCE))


def test_a_claim_out_of_all_models_reach_leaves_the_mechanism() -> None:
    assert more_canaries(30.0, DELTA, CONFIDENCE) == mechanism()
    assert more_trainings(45.0, DELTA, CONFIDENCE) == mechanism()


@pytest.mark.parametrize(("claim", "targets"), [(1.0, 1), (4.0, 1), (4.0, 50), (6.0, 10)])
def test_the_advised_trainings_have_the_ceiling_and_one_fewer_has_not(
    claim: float, targets: int
) -> None:
    advice = more_trainings(claim, DELTA, CONFIDENCE, targets)
    level = (1 - CONFIDENCE) * next(iter(CAMPAIGN_SHARES.values()))
    assert trials_for_ceiling(targets, needed_for_power(claim), DELTA, level) == advice.count
    for trials, reaches in ((advice.count, True), (advice.count - 1, False)):
        perfect = np.full((3, trials), float(targets))
        ceiling = anytime_epsilon(perfect, 0 * perfect, targets, DELTA, level)
        assert (ceiling >= needed_for_power(claim) - 1e-9) is reaches


def test_the_advised_gradients_are_the_fewest_with_power() -> None:
    for steps in (1, 8, 60, 3000):
        advice = crafted_gradients(steps, 10**5, 10**6, CONFIDENCE)
        assert advice is not None
        assert spread_power(LESS, advice.count * steps, CONFIDENCE) >= ENOUGH
        fewer = [m for m in GRADIENTS if m < advice.count]
        assert all(spread_power(LESS, m * steps, CONFIDENCE) < ENOUGH for m in fewer)
    assert crafted_gradients(1, 100, 10**6, CONFIDENCE) is None  # too few records for so many
    assert crafted_gradients(60, 10**5, 400, CONFIDENCE) is None  # too few coordinates


def test_the_power_of_the_spread_is_what_simulated_audits_find() -> None:
    """300 observations of noise 0.85σ, 400 audits: a power of 0.68, give or take 0.07 (3σ)."""
    draw, level = np.random.default_rng(0), (1 - CONFIDENCE) * WITH_SPREAD["spread"]
    steps, m = 10, 30
    found = 0
    for _ in range(400):
        seen = Observations(
            o_Tm=LESS * draw.normal(size=(steps, m)),
            there_Tm=np.ones((steps, m), dtype=bool),
            joined_Tm=np.zeros((steps, m), dtype=bool),
            sigma_T=np.ones(steps),
            rate_T=np.ones(steps),
            planned=steps,
        )
        found += seen.spread_p_value() < level
    assert found / 400 == pytest.approx(spread_power(LESS, steps * m, CONFIDENCE), abs=0.07)
    assert spread_power(1.0, steps * m, CONFIDENCE) == pytest.approx(level / 3)


def test_an_advice_says_what_to_do_and_counts_what_it_says() -> None:
    given = [
        more_canaries(1.0, DELTA, CONFIDENCE),
        more_canaries(4.5, DELTA, CONFIDENCE),
        more_trainings(4.0, DELTA, CONFIDENCE),
        crafted_gradients(60, 1500, 10**5, CONFIDENCE),
        mechanism(),
    ]
    assert len({advice.design for advice in given if advice}) == len(given)
    for advice in given:
        assert isinstance(advice, Advice)
        assert advice.design == "mechanism" or f"{advice.count:,}" in advice.what
        assert not advice.what.endswith(".") and advice.why.endswith(".")
        assert "--" not in advice.what + advice.why
        assert set(dataclasses.asdict(advice)) == {"design", "count", "what", "why"}
