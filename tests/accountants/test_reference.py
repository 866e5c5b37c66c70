"""Reference values: dp-accounting called directly, exact formulas, and the libraries' limits."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting import (
    DpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from dp_accounting.rdp import RdpAccountant
from dpigu.accountants import get_accountant, paper_sigma
from dpigu.accountants.events import flatten
from dpigu.accountants.pld import GRID, PLD, _resolved, discretisation
from dpigu.accountants.prv import PRV, _interval
from dpigu.accountants.renyi_orders.rdp import RDP
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import AccountingError
from scipy.stats import norm

from dpigu import accountants
from tests.accountants.cases import phases, steps

pytestmark = pytest.mark.numerical

ROOT = Path(accountants.__file__).parents[1]
PAPER = steps(1000 / 60000, 2.49, 2400)
EVENTS: dict[str, DpEvent] = {
    "paper": PAPER,
    "one step": steps(0.01, 1.5),
    "phases": phases(steps(0.02, 1.1, 300), steps(1 / 60, 3.0, 1000), GaussianDpEvent(8.0)),
    "query": SelfComposedDpEvent(
        PoissonSampledDpEvent(0.05, phases(GaussianDpEvent(2.0), GaussianDpEvent(6.0))), 100
    ),
    "every record": SelfComposedDpEvent(GaussianDpEvent(20.0), 50),
}


def test_the_acceptance_values() -> None:
    """q = 1000/60000, σ = 2.49, T = 2400, δ = 1e-5 (issue 2; both libraries directly)."""
    assert get_accountant("rdp").epsilon(PAPER, 1e-5).value == pytest.approx(1.4505, abs=5e-5)
    pld = get_accountant("pld").epsilon(PAPER, 1e-5).value
    assert pld == pytest.approx(1.327, abs=5e-4)
    prv = get_accountant("prv").epsilon(PAPER, 1e-5)
    assert prv.accountant == "prv" and prv.note == ""
    assert prv.value is not None and prv.lower is not None and prv.estimate is not None
    assert prv.lower <= pld <= prv.value <= pld + 0.01 + (prv.value - prv.estimate)
    assert prv.estimate == pytest.approx(pld, abs=1e-4)
    assert prv.value - prv.estimate < 0.0102 and prv.estimate - prv.lower < 0.0102


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("name", EVENTS)
def test_rdp_is_dp_accounting_called_directly(name: str, delta: float) -> None:
    direct = RdpAccountant().compose(_flat_query(EVENTS[name])).get_epsilon(delta)
    assert RDP().epsilon(EVENTS[name], delta).value == pytest.approx(direct, rel=1e-12)


@pytest.mark.parametrize("relation", Adjacency)
@pytest.mark.parametrize("name", EVENTS)
def test_pld_is_dp_accounting_called_directly(name: str, relation: Adjacency) -> None:
    event = EVENTS[name]
    assert discretisation(flatten(event), relation) < 2 * GRID
    accountant = PLDAccountant(NeighboringRelation[relation.name]).compose(_flat_query(event))
    ours = PLD().epsilon(event, 1e-5, relation)
    assert ours.accountant == "pld"
    same = 1e-6 if discretisation(flatten(event), relation) == GRID else 1e-4
    assert ours.value == pytest.approx(accountant.get_epsilon(1e-5), rel=same)
    assert PLD().delta(event, 1.0, relation) == pytest.approx(accountant.get_delta(1.0), rel=same)


def _flat_query(event: DpEvent) -> DpEvent:
    """dp-accounting's PLD does not join Gaussians on one sample, so give it the joint one."""
    if event is not EVENTS["query"]:
        return event
    return steps(0.05, (2.0**-2 + 6.0**-2) ** -0.5, 100)


@pytest.mark.parametrize(
    ("event", "interval"),
    [(steps(1 / 60, 70.0, 2400), 3.97e-6), (steps(1e-3, 200.0, 10**5), 8.33e-8)],
)
def test_where_the_default_grid_is_coarse_ours_is_finer(event: DpEvent, interval: float) -> None:
    """Rounding up each step's loss to 1e-4 adds up. On the finer grid dp-accounting's own
    arithmetic adds up in its turn, and ours is near the limit of many steps, a Gaussian's.

    Source of the limit: Dong, Roth and Su 2019, corollary 5.4.
    """
    ours, default = PLD().epsilon(event, 1e-5), PLDAccountant().compose(event).get_epsilon(1e-5)
    chosen = discretisation(flatten(event), Adjacency.ADD_OR_REMOVE_ONE)
    assert chosen == pytest.approx(interval, rel=1e-2)
    finer = PLDAccountant(value_discretization_interval=chosen).compose(event).get_epsilon(1e-5)
    assert ours.accountant == "pld"
    (step,) = flatten(event)
    mu = step.rate * math.sqrt(step.count * math.expm1(step.noise_multiplier**-2))
    assert ours.value == pytest.approx(dp_accounting.get_epsilon_gaussian(1 / mu, 1e-5), rel=1e-3)
    assert ours.value < finer * (1 + 1e-6) < 0.99 * default
    assert discretisation(flatten(event), Adjacency.REPLACE_ONE) == pytest.approx(
        2 * chosen, rel=1e-2
    )


def test_little_noise_is_accounted_on_a_coarser_grid_without_harm() -> None:
    event = steps(1 / 60, 0.55, 20)
    assert discretisation(flatten(event), Adjacency.ADD_OR_REMOVE_ONE) > 1.5 * GRID
    direct = PLDAccountant().compose(event).get_epsilon(1e-5)
    assert PLD().epsilon(event, 1e-5).value == pytest.approx(direct, rel=1e-4)


@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9, 1e-12])
@pytest.mark.parametrize("z", [0.1, 1.0, 10.0, 100.0])
def test_one_gaussian_has_its_exact_value(z: float, delta: float) -> None:
    """T = 1, q = 1: ε from Balle and Wang 2018 (arXiv 1805.06530), from 0 to 140."""
    exact = dp_accounting.get_epsilon_gaussian(z, delta)
    pld = PLD().epsilon(GaussianDpEvent(z), delta).value
    rdp = RDP().epsilon(steps(1.0, z), delta).value
    assert pld is not None and rdp is not None
    assert exact - 1e-9 <= pld <= exact * 1.002 + 1e-6
    assert exact - 1e-9 <= rdp <= exact * 1.5 + 0.05
    doubled = PLD().epsilon(GaussianDpEvent(2 * z), delta, Adjacency.REPLACE_ONE).value
    assert doubled == pytest.approx(pld, rel=1e-3, abs=1e-6)


def test_rounding_of_the_fft_never_makes_epsilon_too_small() -> None:
    """1000 Gaussians of σ = √1000 are one of σ = 1, whose ε is exact, also at δ = 1e-12."""
    exact = dp_accounting.get_epsilon_gaussian(1.0, 1e-12)
    almost_all = steps(1 - 1e-12, math.sqrt(1000), 1000)
    ours = PLD().epsilon(almost_all, 1e-12).value
    assert ours is not None and exact < ours < 1.03 * exact
    never = PLD().delta(steps(0.1, 3.0, 1000), 500.0, Adjacency.REPLACE_ONE)
    assert 1000 * 2.0**-52 < never < 1e-12


@dataclass(frozen=True)
class Short:
    """The exact Gaussian of σ = 1 by an arithmetic that loses `lost` of every δ."""

    lost: float

    def get_delta_for_epsilon(self, epsilon: float) -> float:
        exact = norm.cdf(0.5 - epsilon) - math.exp(epsilon) * norm.cdf(-0.5 - epsilon)
        return float(exact) - self.lost

    def get_epsilon_for_delta(self, delta: float) -> float:
        return dp_accounting.get_epsilon_gaussian(1.0, delta + self.lost)


def test_what_the_fft_may_lose_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losing n·2⁻⁵² of δ over n releases is the worst that is charged for, in both directions."""
    event, worst = steps(1 - 1e-12, math.sqrt(1000), 1000), Short(1000 * 2.0**-52)
    exact = dp_accounting.get_epsilon_gaussian(1.0, 1e-12)
    assert worst.get_epsilon_for_delta(1e-12) < exact - 1e-2, "nothing is lost"
    monkeypatch.setattr("dpigu.accountants.pld._composed", lambda *event: worst)
    monkeypatch.setattr("dpigu.accountants.pld._resolved", _resolved.__wrapped__)
    assert PLD().epsilon(event, 1e-12).value >= exact - 1e-9
    assert PLD().delta(event, exact) >= 1e-12 * (1 - 1e-6)
    monkeypatch.setattr("dpigu.accountants.pld.ROUNDING", 2.0**-53)
    assert PLD().epsilon(event, 1e-12).value < exact - 1e-2, "half the charge is not enough"
    assert PLD().delta(event, exact) < 0.95e-12


def test_a_delta_below_the_rounding_is_left_to_rdp() -> None:
    answer = PLD().epsilon(PAPER, 1e-13)
    assert answer.accountant == "rdp" and "cannot resolve" in answer.note
    assert answer.value == RDP().epsilon(PAPER, 1e-13).value
    nearly = PLD().epsilon(steps(1 / 60, 2.49, 1000), 1000 * 2.0**-52 + 5e-15)
    assert nearly.accountant == "rdp"
    replaced = PLD().epsilon(PAPER, 1e-13, Adjacency.REPLACE_ONE)
    assert replaced.value is None and "no guarantee" in replaced.note


@pytest.mark.parametrize("name", ["rdp", "pld"])
def test_delta_and_epsilon_are_inverse(name: str) -> None:
    accountant = PLD() if name == "pld" else RDP()
    for event in (PAPER, EVENTS["phases"]):
        for delta in (1e-2, 1e-5, 1e-8):
            epsilon = accountant.epsilon(event, delta).value
            assert epsilon is not None
            assert accountant.delta(event, epsilon) == pytest.approx(delta, rel=1e-3)
    assert accountant.delta(phases(), 0.0) == 0.0
    assert accountant.delta(steps(0.1, 0.0), 3.0) == 1.0
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(AccountingError, match="epsilon"):
            accountant.delta(PAPER, bad)


def test_why_rdp_refuses_replace_one() -> None:
    """dp-accounting charges a plain Gaussian as if the sensitivity were C, and ours is 2C."""
    relation = NeighboringRelation.REPLACE_ONE
    replaced = RdpAccountant(neighboring_relation=relation).compose(GaussianDpEvent(3.0))
    assert replaced.get_epsilon(1e-5) == RDP().epsilon(GaussianDpEvent(3.0), 1e-5).value
    with pytest.raises(dp_accounting.UnsupportedEventError):
        RdpAccountant(neighboring_relation=relation).compose(steps(0.1, 3.0))


def test_an_interval_that_misses_the_truth_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """q = 0.1, σ = 0.8, T = 300: prv-accountant says [19.3234, 19.3453], the truth is 19.3166.

    Its quadrature of the mean loss is off. PLD's value is an upper bound on the truth, and
    hardly moves on a grid 20 times coarser, so the library's interval is wrong.
    """
    event = steps(0.1, 0.8, 300)
    interval = _interval(flatten(event), 1e-5, 19.3)
    monkeypatch.setattr("dpigu.accountants.prv._interval", lambda *arguments: interval)
    answer = PRV().epsilon(event, 1e-5)
    assert answer == _with_pld(event, answer.note)
    assert "misses PLD" in answer.note
    coarse = from_gaussian_mechanism(0.8, sampling_prob=0.1, value_discretization_interval=2e-3)
    assert coarse.self_compose(300).get_epsilon_for_delta(1e-5) < 19.318 < interval[0]


@pytest.mark.parametrize(
    "interval", [(0.1, 0.2, 0.3), (2.0, 2.1, 2.2), (1.0, 1.5, math.inf), (math.nan,) * 3]
)
def test_any_interval_that_misses_pld_falls_back(
    interval: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PLD says 1.327: too low, too high, endless or no number at all is not reported."""
    monkeypatch.setattr("dpigu.accountants.prv._interval", lambda *arguments: interval)
    answer = PRV().epsilon(PAPER, 1e-5)
    assert answer == _with_pld(PAPER, answer.note)
    monkeypatch.setattr("dpigu.accountants.prv._interval", lambda *arguments: (1.3, 1.32, 1.34))
    assert PRV().epsilon(PAPER, 1e-5) == accountants.Epsilon(1.34, 1.3, 1.32, "prv")


def test_a_failure_of_the_library_falls_back() -> None:
    """q = 0.1, σ = 0.4: prv-accountant stops with an error of its own."""
    event = steps(0.1, 0.4, 1)
    with pytest.raises(RuntimeError, match="mean"):
        _interval(flatten(event), 1e-5, 9.5)
    answer = PRV().epsilon(event, 1e-5)
    assert answer == _with_pld(event, answer.note)
    assert "failed" in answer.note and "PLD" in answer.note


def test_a_mesh_that_is_too_large_falls_back() -> None:
    event = steps(1e-3, 20.0, 200_000)
    answer = PRV().epsilon(event, 1e-5)
    assert answer == _with_pld(event, answer.note)
    assert "mesh" in answer.note


def _with_pld(event: DpEvent, note: str) -> accountants.Epsilon:
    value = PLD().epsilon(event, 1e-5).value
    return accountants.Epsilon(value, None, None, "pld", note)


def test_the_libraries_are_silent(
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """dp-accounting logs each order left out near q = ½, prv-accountant warns of overflows."""
    RDP().epsilon(steps(0.4999, 1.0, 10), 1e-5)
    PRV().epsilon(steps(0.01, 1.0, 10), 1e-5)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records and not recwarn.list


@pytest.mark.parametrize(("epsilon", "gap"), [(0.5, 11.08 / 5.82), (2.0, 2.77 / 1.80)])
def test_theorem_9_asks_for_too_much_noise(epsilon: float, gap: float) -> None:
    """σ of Theorem 9 over PLD's calibrated σ, at q = 1/60, T = 2400, δ = 1e-5."""
    sigma = paper_sigma(1 / 60, 2400, epsilon, 1e-5)
    assert sigma == pytest.approx(2 / 60 * math.sqrt(2400 * math.log(1e5)) / epsilon)
    spent = PLD().epsilon(steps(1 / 60, sigma, 2400), 1e-5).value
    assert spent is not None and spent < 0.75 * epsilon
    calibrated = accountants.calibrate_noise_multiplier(
        lambda z: steps(1 / 60, z, 2400), epsilon, 1e-5, "pld", tolerance=1e-3
    )
    assert sigma / calibrated == pytest.approx(gap, rel=3e-3)


def test_theorem_9_is_false_where_epsilon_is_large() -> None:
    """At ε = 8 the printed σ = 0.693 spends 12: even the tight accountant contradicts it."""
    sigma = paper_sigma(1 / 60, 2400, 8.0, 1e-5)
    spent = PLD().epsilon(steps(1 / 60, sigma, 2400), 1e-5).value
    assert sigma == pytest.approx(0.6926, abs=1e-4)
    assert spent == pytest.approx(11.974, abs=1e-3)


@pytest.mark.parametrize(
    "arguments", [(0.0, 10, 1.0, 0.1), (0.1, -1, 1.0, 0.1), (0.1, 1, 0.0, 0.1), (0.1, 1, 1.0, 1.0)]
)
def test_theorem_9_has_a_domain(arguments: tuple[float, int, float, float]) -> None:
    with pytest.raises(AccountingError):
        paper_sigma(*arguments)


@pytest.mark.parametrize(("typo", "meant"), [("RDP", "rdp"), ("pdl", "pld"), ("prvs", "prv")])
def test_an_unknown_name_gets_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(AccountingError, match=f"Did you mean '{meant}'"):
        get_accountant(typo)


def test_importing_the_package_loads_no_library() -> None:
    """So that the command line starts at once; dpcore's own imports are not ours to judge."""
    program = (
        "import sys, types; core = types.ModuleType('dpigu.dpcore'); core.__path__ = ['dpcore']; "
        "import dpigu; sys.modules['dpigu.dpcore'] = core; import dpigu.accountants; "
        "print(sorted({'numpy', 'scipy', 'dp_accounting', 'prv_accountant'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
