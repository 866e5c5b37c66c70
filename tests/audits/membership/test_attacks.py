"""Membership attacks in worlds whose answer is known, and what must not change their answer.

Intervals are of 99.9%: by chance, a law fails once in a thousand seeds, and these are fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from dpigu.audits import ATTACKS, auc, tpr_at
from dpigu.audits.membership.attacks import Attack, Bools, lira_offline, lira_online, loss, rmia
from dpigu.audits.statistics.one_run import Reals
from dpigu.dpcore import DataError
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, ndtr

SURE = 0.999
RECORDS, TAU = 4000, 3.0


@dataclass(frozen=True)
class Scenario:
    """Margins N(μ_n + shift·[in], 1), μ_n ~ N(0, τ²): the audited model's, and the shadows'."""

    member_N: Bools
    phi_N: Reals
    phi_SN: Reals
    in_SN: Bools

    def score(self, attack: Attack) -> Reals:
        return attack(self.phi_N, self.phi_SN, self.in_SN)

    def auc(self, attack: Attack) -> tuple[float, float, float]:
        score_N = self.score(attack)
        found = auc(score_N[self.member_N], score_N[~self.member_N], SURE)
        return found.low, found.value, found.high


def scenario(
    shift: float, shadows: int, records: int = RECORDS, tau: float = TAU, seed: int = 0
) -> Scenario:
    """Shadows in pairs of complements, as `dpigu.audits.membership.shadows` trains them."""
    draw = np.random.default_rng(seed)
    mu_N, member_N = draw.normal(0, tau, records), draw.random(records) < 0.5
    pairs = draw.random((shadows // 2, records)) < 0.5
    in_SN = np.stack([pairs, ~pairs], axis=1).reshape(shadows, records)
    phi_N = mu_N + shift * member_N + draw.normal(size=records)
    phi_SN = mu_N + shift * in_SN + draw.normal(size=(shadows, records))
    return Scenario(member_N, phi_N, phi_SN, in_SN)


@pytest.mark.parametrize("shadows", [4, 16, 64])
def test_offline_lira_has_its_closed_form(shadows: int) -> None:
    """φ − μ̂_out has variance 1 + 2/S, so AUC = Φ(d/√(2 + 4/S)); with own variances a bit less."""
    low, value, high = scenario(1.5, shadows).auc(lira_offline)
    exact = ndtr(1.5 / math.sqrt(2 + 4 / shadows))
    assert low < exact < high or (shadows >= 64 and exact - 0.015 < value < exact)


@pytest.mark.parametrize("shift", [0.5, 1.5, 3.0])
def test_online_lira_reaches_the_likelihood_ratio(shift: float) -> None:
    """With 400 shadows the fit is as good as exact: AUC = Φ(d/√2), which no test can pass."""
    low, value, high = scenario(shift, 400).auc(lira_online)
    assert low < ndtr(shift / math.sqrt(2)) < high
    assert high - low < 0.06 and value > 0.5


def test_the_loss_has_its_closed_form() -> None:
    """Easy records hide members: AUC = Φ(d/√(2(1 + τ²)))."""
    low, _, high = scenario(1.5, 4).auc(loss)
    assert low < ndtr(1.5 / math.sqrt(2 * (1 + TAU**2))) < high


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_passes_the_likelihood_ratio(name: str) -> None:
    low, _, _ = scenario(1.5, 32).auc(ATTACKS[name].score)
    assert low < ndtr(1.5 / math.sqrt(2))


@pytest.mark.parametrize("name", ["lira-online", "lira-offline", "rmia"])
def test_shadows_find_what_the_loss_does_not(name: str) -> None:
    made = scenario(1.5, 16)
    assert made.auc(ATTACKS[name].score)[0] > made.auc(loss)[2]


def calibrated(attack: Attack, made: Scenario) -> None:
    """Where membership moves nothing, an attack finds as many as it accuses."""
    score_N = made.score(attack)
    inside, outside = score_N[made.member_N], score_N[~made.member_N]
    area, rare = auc(inside, outside, SURE), tpr_at(inside, outside, 0.05, SURE)
    assert area.low < 0.5 < area.high, area
    assert rare.low < 0.05 < rare.high, rare


@pytest.mark.parametrize("shadows", [4, 16, 64])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_finds_nothing_where_nothing_leaks(name: str, shadows: int) -> None:
    """AUC 0.5 and TPR 5% at 5% FPR lie in their intervals, about ± 0.03 and ± 3 points."""
    calibrated(ATTACKS[name].score, scenario(0.0, shadows, seed=1))


@pytest.mark.parametrize("name", ["lira-online", "lira-offline", "rmia"])
def test_that_law_sees_the_audited_model_among_its_own_shadows(name: str) -> None:
    made = scenario(0.0, 4, seed=1)
    leaking = Scenario(
        made.member_N,
        made.phi_N,
        np.vstack([made.phi_SN, made.phi_N]),
        np.vstack([made.in_SN, made.member_N]),
    )
    with pytest.raises(AssertionError):
        calibrated(ATTACKS[name].score, leaking)


def test_in_and_out_swapped_turn_online_lira_round() -> None:
    made = scenario(1.5, 16)
    swapped = Scenario(made.member_N, made.phi_N, made.phi_SN, ~made.in_SN)
    np.testing.assert_allclose(swapped.score(lira_online), -made.score(lira_online))
    assert swapped.auc(lira_online)[2] < 0.5 < made.auc(lira_online)[0]


def reads_only_outsiders(attack: Attack) -> None:
    """What a shadow says of a record that it trained on must not reach that record's score."""
    made = scenario(1.0, 8, records=50)
    garbage = np.where(made.in_SN, 1e3 * np.cos(np.arange(50)), made.phi_SN)
    np.testing.assert_array_equal(
        made.score(attack), attack(made.phi_N, garbage, made.in_SN), strict=True
    )


@pytest.mark.parametrize("attack", [lira_offline, rmia])
def test_offline_attacks_leave_out_shadows_that_trained_the_record(attack: Attack) -> None:
    reads_only_outsiders(attack)


@pytest.mark.parametrize("attack", [lira_offline, rmia])
def test_that_law_sees_a_shadow_counted_for_its_own_record(attack: Attack) -> None:
    def counts_the_first_for_all(phi_N: Reals, phi_SN: Reals, in_SN: Bools) -> Reals:
        return attack(phi_N, phi_SN, np.vstack([np.zeros_like(in_SN[:1]), in_SN[1:]]))

    def swapped(phi_N: Reals, phi_SN: Reals, in_SN: Bools) -> Reals:
        return attack(phi_N, phi_SN, ~in_SN)

    for mutant in (counts_the_first_for_all, swapped):
        with pytest.raises(AssertionError):
            reads_only_outsiders(mutant)


small = st.builds(
    scenario,
    shift=st.floats(0, 3),
    shadows=st.sampled_from([4, 6, 64]),
    records=st.integers(3, 40),
    seed=st.integers(0, 2**32),
)


@given(small, st.integers(0, 2**32), st.sampled_from(list(ATTACKS)))
def test_the_order_of_records_and_of_shadows_is_nothing(
    made: Scenario, seed: int, name: str
) -> None:
    attack, draw = ATTACKS[name].score, np.random.default_rng(seed)
    s, n = draw.permutation(len(made.phi_SN)), draw.permutation(len(made.phi_N))
    moved = attack(made.phi_N[n], made.phi_SN[s][:, n], made.in_SN[s][:, n])
    np.testing.assert_allclose(moved, made.score(attack)[n], rtol=1e-7, atol=1e-9)


@given(small, st.floats(0.1, 10), st.sampled_from([lira_online, lira_offline]))
def test_lira_asks_how_far_from_others_not_how_hard_a_record_is(
    made: Scenario, scale: float, attack: Attack
) -> None:
    """φ → c·φ + b_n, for the audited model and its shadows alike, changes no score."""
    b_N = np.random.default_rng(5).normal(0, 10, len(made.phi_N))
    moved = attack(scale * made.phi_N + b_N, scale * made.phi_SN + b_N, made.in_SN)
    np.testing.assert_allclose(moved, made.score(attack), rtol=1e-5, atol=1e-6)


@given(small)
def test_only_the_order_of_losses_counts(made: Scenario) -> None:
    """The loss ranks as the margin does, and finds what any increasing map of it finds."""
    by_loss, by_margin = made.score(loss), made.phi_N
    np.testing.assert_array_equal(by_loss.argsort(kind="stable"), by_margin.argsort(kind="stable"))


@given(small, st.sampled_from([lira_offline, rmia, loss]))
def test_a_higher_margin_never_looks_less_like_a_member(made: Scenario, attack: Attack) -> None:
    higher = made.phi_N.copy()
    higher[0] += 1.0
    assert attack(higher, made.phi_SN, made.in_SN)[0] >= made.score(attack)[0]


@given(small)
def test_rmia_is_a_rank_and_matches_its_definition(made: Scenario) -> None:
    """Pairwise: the share of z with p(x)/P(x) ≥ γ·p(z)/P(z), by the double loop."""
    a, gamma = 0.3, 1.2
    out_N = [expit(made.phi_SN[~made.in_SN[:, n], n]).mean() for n in range(len(made.phi_N))]
    ratio_N = [
        expit(phi) / (((1 + a) * out + (1 - a)) / 2)
        for phi, out in zip(made.phi_N, out_N, strict=True)
    ]
    pairwise = [np.mean([x / z >= gamma for z in ratio_N]) for x in ratio_N]
    found = rmia(made.phi_N, made.phi_SN, made.in_SN, a, gamma)
    np.testing.assert_allclose(found, pairwise, atol=1e-12)


@pytest.mark.parametrize("name", ATTACKS)
def test_margins_beyond_float_give_numbers(name: str) -> None:
    made = scenario(1.0, 8, records=20)
    for scale in (1e2, 1e150, 0.0):
        score_N = ATTACKS[name].score(scale * made.phi_N, scale * made.phi_SN, made.in_SN)
        assert not np.isnan(score_N).any()


@pytest.mark.parametrize("attack", [lira_online, lira_offline, rmia])
def test_a_record_without_a_shadow_on_its_side_is_refused(attack: Attack) -> None:
    made = scenario(1.0, 4, records=20)
    everywhere = made.in_SN.copy()
    everywhere[:, 7] = True
    with pytest.raises(DataError, match="no shadow model on one side"):
        attack(made.phi_N, made.phi_SN, everywhere)
