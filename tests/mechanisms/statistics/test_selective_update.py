"""Selective updates: the loss change is a difference of losses, and a look is paid for."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dpigu.accountants import get_accountant
from dpigu.dpcore import (
    GrammarError,
    Phase,
    Pipeline,
    Plan,
    PoissonSampler,
    Record,
    SelectiveUpdate,
    Space,
)
from dpigu.dpcore.registry.configuration import plan_from_dict, plan_to_dict
from dpigu.mechanisms import Flat, Gaussian
from dpigu.mechanisms.statistics.selective_update import LossChange, Threshold
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, release_of

LOOKING = Pipeline(
    clipper=Flat(bound=1.0), noiser=Gaussian(noise_multiplier=2.0), statistic=LossChange()
)


def plan(selective_update: SelectiveUpdate | None, steps: int = 50) -> Plan:
    pipeline = Pipeline(clipper=Flat(bound=0.5), noiser=Gaussian(noise_multiplier=1.5))
    return Plan((Phase("main", pipeline, steps, selective_update=selective_update),))


def epsilon(of: Plan, rate: float = 0.01) -> float:
    event = of.event(PoissonSampler(rate, 10_000))
    return get_accountant("rdp").epsilon(event, 1e-5, of.adjacency).value


@given(before=st.floats(-3, 3), after=st.floats(-3, 3), x=st.floats(-2, 2))
def test_the_row_is_the_new_loss_less_the_old(before, after, x):
    def loss(at_D: torch.Tensor | None) -> torch.Tensor:
        return ((after if at_D is None else at_D[0]) * torch.tensor(x)) ** 2

    stage = LossChange()
    state = stage.init(context(Space.flat("w", 1), torch.tensor([before])), {})
    record = Record(torch.tensor(x), torch.tensor(0), loss, lambda: torch.zeros(1))
    expected = (after * x) ** 2 - (before * x) ** 2
    torch.testing.assert_close(
        stage.row_of(state, record).double(),
        torch.tensor([expected]).double(),
        atol=1e-5,
        rtol=1e-5,
    )


@given(
    value=st.floats(-5, 5),
    below=st.floats(-5, 5),
    deviations=st.sampled_from((-2.0, 0.0, 1.0)),
    deviation=st.floats(0, 3),
)
def test_an_update_is_kept_below_the_threshold(value, below, deviations, deviation):
    """r ≤ β + λ·√v, with the known variance v of the release."""
    one = torch.tensor([value], dtype=torch.float64)
    released = release_of(one, torch.full_like(one, deviation**2)).gradient
    most = below + deviations * (deviation**2) ** 0.5
    kept = Threshold(below=below, deviations=deviations).accepts(released)
    assert kept is (value <= most)


def test_a_release_that_is_not_a_number_keeps_nothing():
    assert Threshold().accepts(release_of(torch.tensor([float("nan")])).gradient) is False


def test_the_event_holds_the_look_at_its_own_rate():
    event = plan(SelectiveUpdate(LOOKING, Threshold(), rate=0.25)).event(
        PoissonSampler(0.01, 10_000)
    )
    (composed,) = event.events
    assert composed.count == 50
    assert composed.event.events == [
        PoissonSampledDpEvent(0.01, GaussianDpEvent(1.5)),
        PoissonSampledDpEvent(0.25, GaussianDpEvent(2.0)),
    ]


def test_a_look_may_take_a_share_of_the_plan_s_rate():
    selective = SelectiveUpdate(LOOKING, Threshold(), share=0.25)
    assert selective.sampler(PoissonSampler(0.5, 100)).rate == 0.125
    assert plan_from_dict(plan_to_dict(plan(selective))) == plan(selective)
    with pytest.raises(GrammarError, match=r"share.*\(got 0, expected a number in \(0, 1\]"):
        SelectiveUpdate(LOOKING, Threshold(), share=0)


def test_a_look_costs_what_a_phase_of_its_releases_would_cost():
    """Composition does not care for the order: looks beside steps are looks after steps."""
    beside = plan(SelectiveUpdate(LOOKING, Threshold()))
    after = Plan((*plan(None).phases, Phase("looks", LOOKING, 50)))
    assert epsilon(beside) == pytest.approx(epsilon(after), rel=1e-12)
    assert epsilon(beside) > epsilon(plan(None))


def test_calibration_scales_the_noise_of_the_look_too():
    scaled = plan(SelectiveUpdate(LOOKING, Threshold())).scaled_noise(3.0).phases[0]
    assert [p.noiser.noise_multiplier for p in scaled.pipelines] == [4.5, 6.0]


def test_a_plan_with_a_look_is_written_down_and_read_back():
    here = plan(SelectiveUpdate(LOOKING, Threshold(below=-0.5), rate=0.125))
    assert plan_from_dict(plan_to_dict(here)) == here


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: SelectiveUpdate(
                Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian()), Threshold()
            ),
            "a selective update releases a statistic, and its pipeline has none",
        ),
        (lambda: SelectiveUpdate(LOOKING, Flat(bound=1.0)), "a selective update needs a decision"),
        (
            lambda: Phase("p", LOOKING, 1, selective_update=SelectiveUpdate(LOOKING, Threshold())),
            "trains no weights, so there is no update to look at",
        ),
        (
            lambda: plan(SelectiveUpdate(LOOKING.scaled_noise(0.0), Threshold())),
            "a phase without noise makes the whole plan non-private",
        ),
    ],
)
def test_a_mistake_is_one_line(make, line):
    with pytest.raises(GrammarError, match=line):
        make()


def test_threshold_must_be_a_number():
    with pytest.raises(GrammarError, match="finite"):
        dataclasses.replace(Threshold(), below=float("nan"))


def test_a_look_is_nothing_to_assign_to():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SelectiveUpdate(LOOKING, Threshold()).rate = 0.5
