"""Power: the plan's simulated audits find what they say, and leave the innocent alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from dpigu.audits.report.power_picture import draw_power
from dpigu.audits.statistics.combined import WITH_SPREAD, accounted_curve
from dpigu.audits.statistics.fdp import fdp_p_value
from dpigu.audits.statistics.one_run import guess_grid, one_run_p_value
from dpigu.audits.statistics.power import PowerPlan, _event, _needed, plan_power
from dpigu.dpcore import Adjacency, DataError


@pytest.fixture(scope="module")
def plan() -> PowerPlan:
    return plan_power(
        noise_multiplier=5.0, rate=1.0, steps=25, delta=1e-5, canaries=(100, 400), noise=(1, 0.2)
    )


def test_the_true_noise_is_seldom_contradicted_and_less_is_found(plan: PowerPlan) -> None:
    """μ = 1 as claimed: at most 5% of audits, so 8% of 400 simulated has p < 1%. μ = 5: most."""
    honest, leaky = plan.violations
    assert max(honest.power) <= 0.08
    assert leaky.power[1] > 0.9 and leaky.power[0] <= leaky.power[1]
    assert plan.enough(leaky) in (100, 400) and plan.enough(honest) is None
    assert honest.epsilon == pytest.approx(4.377, abs=0.01) == plan.epsilon
    assert leaky.epsilon is not None and leaky.epsilon > 2 * plan.epsilon


def test_a_plan_is_the_same_each_time(plan: PowerPlan) -> None:
    again = plan_power(
        noise_multiplier=5.0, rate=1.0, steps=25, delta=1e-5, canaries=(400, 100), noise=(1, 0.2)
    )
    assert again == plan


def test_the_counts_needed_are_the_fewest_that_a_test_rejects() -> None:
    curve = accounted_curve(_event(5.0, 1.0, 25), Adjacency.ADD_OR_REMOVE_ONE)
    assert curve is not None
    m, grid = 100, guess_grid(100)
    level = 0.05 * WITH_SPREAD["one-run"] / len(grid)
    for r, least in zip(grid, _needed(m, grid, 1.0, 1e-5, 0.95, curve), strict=True):
        for right, rejected in ((least, True), (least - 1, False)):
            if right <= r:
                p = one_run_p_value(m, r, right, 1.0, 1e-5)
                assert (min(p, fdp_p_value(curve, m, r, right)) < level) is rejected


@pytest.mark.pictures
@pytest.mark.parametrize("name", ["power.png", "power.svg"])
def test_it_has_a_picture(plan: PowerPlan, tmp_path: Path, name: str) -> None:
    draw_power(plan, tmp_path / name)
    assert (tmp_path / name).stat().st_size > 5000


def test_what_cannot_be_planned_is_refused(plan: PowerPlan, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="above 0"):
        plan_power(noise_multiplier=0.0, rate=0.1, steps=1, delta=1e-5)
    with pytest.raises(DataError, match="canary"):
        plan_power(noise_multiplier=1.0, rate=0.1, steps=1, delta=1e-5, canaries=(0,))
    with pytest.raises(DataError, match=r"\.png or \.svg"):
        draw_power(plan, tmp_path / "power.pdf")
