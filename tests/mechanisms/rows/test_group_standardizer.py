"""The group-wise standardizer finds the noise-optimal scales, and noise alone moves nothing.

Two groups of per-record spread s: the optimum of Σ b² under Σ s²/b² = Σ s² is b ∝ √s
(AdaCliP, arXiv 1908.07643), where Σ b² = (Σ s)²/Σ s².
"""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import Clock, Phase, Pipeline, Plan, Space
from dpigu.mechanisms import AffineRestorer, Flat, Gaussian, GroupStandardizer
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, normal, release_of, steps_of

pytestmark = pytest.mark.numerical

EACH, BATCH = 300, 100
SPACE = Space(("loud.weight", "quiet.weight"), ((EACH,), (EACH,)))
SPREAD_D = torch.cat([torch.full((EACH,), 1.0), torch.full((EACH,), 0.1)]).double()
OPTIMAL_RATIO = (1.0 / 0.1) ** 0.5


def learnt(stage, *, spread_D, noise, told=None, steps=600, mean=0.5, forget_mean=False):
    """The state after released means of `BATCH` rows: a steady mean, sampling, and noise."""
    size = SPACE.size
    variance_D = torch.full((size,), (noise if told is None else told) ** 2).double()
    state = stage.init(context(SPACE, steps=steps), {})
    for t in range(steps):
        sampling_D = spread_D / BATCH**0.5 * normal(size, seed=2 * t)
        value_D = mean + sampling_D + noise * normal(size, seed=2 * t + 1)
        state = stage.update(state, release_of(value_D, variance_D, clock=Clock(t, steps)), {})
        if forget_mean:
            state = {**state, "mean_D": torch.zeros_like(value_D)}
    return state


def ratio(state):
    """Scale of the loud group over that of the quiet one."""
    weight_D = state["weight_D"]
    return float(weight_D[-1] / weight_D[0])


@pytest.mark.parametrize("mean_decay", [0.0, 0.9])
def test_the_scales_approach_the_noise_optimal_ratio(mean_decay):
    """Noise of 27 times the quiet group's sampling variance; the ratio is found to 10%.

    The margin of 3 standard errors pulls it towards 1; a false alarm needs as much again.
    """
    stage = GroupStandardizer(decay=0.998, mean_decay=mean_decay)
    state = learnt(stage, spread_D=SPREAD_D, noise=0.052)
    assert ratio(state) == pytest.approx(OPTIMAL_RATIO, rel=0.1)


def test_without_subtracting_the_noise_the_ratio_is_missed():
    """The mutant that the law above must catch: a variance told as zero."""
    stage = GroupStandardizer(decay=0.998)
    assert ratio(learnt(stage, spread_D=SPREAD_D, noise=0.052, told=0.0)) < 0.6 * OPTIMAL_RATIO


def test_without_removing_the_mean_the_ratio_is_missed():
    """A mean of five sampling deviations in both groups hides their spreads, if it stays."""
    stage = GroupStandardizer(decay=0.998)
    assert ratio(learnt(stage, spread_D=SPREAD_D, noise=0.0)) == pytest.approx(
        OPTIMAL_RATIO, rel=0.05
    )
    assert ratio(learnt(stage, spread_D=SPREAD_D, noise=0.0, forget_mean=True)) < 1.1


@pytest.mark.parametrize("grouping", ["layer", "filter"])
def test_pure_noise_leaves_every_scale_where_it_is(grouping):
    """60 groups of 10 coordinates or 2 of 300, 12 refreshes: no weight leaves 1 by 5%.

    The gate on the pooled estimate errs with a probability of about 0.1% a refresh.
    """
    space = Space(("a.weight", "b.weight"), ((30, 10), (30, 10)))
    stage = GroupStandardizer(grouping=grouping)
    state = stage.init(context(space), {})
    for t in range(600):
        release = release_of(
            0.1 * normal(space.size, seed=t),
            torch.full((space.size,), 0.01).double(),
            clock=Clock(t, 600),
        )
        state = stage.update(state, release, {})
        assert float((state["weight_D"] - 1).abs().max()) < 0.05


def test_without_the_margin_pure_noise_moves_the_scales():
    """The mutant that the law above must catch: no standard errors."""
    stage, silent_D = GroupStandardizer(certainty=0.0), torch.zeros(SPACE.size).double()
    ratios = [
        ratio(learnt(stage, spread_D=silent_D, noise=0.1, steps=steps)) for steps in (50, 100, 200)
    ]
    assert any(abs(r - 1) > 0.05 for r in ratios)


def test_through_the_kernel_the_noise_energy_falls_to_the_optimum():
    """Σ b²/D comes within 10% of (Σ s)²/(D Σ s²) = 0.60, with clipping at the typical norm."""
    bound = float(SPREAD_D.square().sum().sqrt())
    stage = GroupStandardizer(decay=0.998, refresh=100)
    pipeline = Pipeline(
        clipper=Flat(bound=bound),
        noiser=Gaussian(noise_multiplier=1.0),
        rows=(stage,),
        posts=(AffineRestorer(),),
    )
    *_, (_, _, _, states) = steps_of(
        Plan((Phase("main", pipeline, 600),)),
        SPACE,
        lambda t, context: SPREAD_D.float() * normal(BATCH, SPACE.size, seed=t).float(),
        expected_batch=float(BATCH),
    )
    state = states["group-standardizer"]
    optimum = float(SPREAD_D.sum() ** 2 / (SPACE.size * SPREAD_D.square().sum()))
    assert float((state["weight_D"] ** -2).mean()) == pytest.approx(optimum, rel=0.1)
    energy = (state["weight_D"] * SPREAD_D).square().sum() / SPREAD_D.square().sum()
    assert float(energy) == pytest.approx(1.0, rel=0.1)


GROUPS = st.integers(1, 6).flatmap(
    lambda G: st.tuples(
        *(st.lists(st.floats(low, high), min_size=G, max_size=G) for low, high in RANGES)
    )
)
RANGES = ((0.01, 10.0), (0.0, 3.0), (1.0, 1000.0))


@given(GROUPS)
def test_the_typical_row_keeps_its_norm_and_scales_stay_within_the_limit(groups):
    """Σ n s²/b² = Σ n s² for what the estimates allow, and b within [1/3, 3] of a common one."""
    s2_G, error_G, count_G = (torch.tensor(values, dtype=torch.float64) for values in groups)
    stage = GroupStandardizer(certainty=1.0)
    weight_G = stage.weights(s2_G * count_G, (error_G * count_G) ** 2, count_G)
    assert float(weight_G.max() / weight_G.min()) <= 9 * (1 + 1e-12)
    used_G = weight_G**-4
    kept = (count_G * used_G * weight_G**2).sum() / (count_G * used_G).sum()
    assert float(kept) == pytest.approx(1.0)


@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=6))
def test_without_error_the_scales_are_the_optimum_exactly(spreads):
    """Within the limit, b ∝ √s and nothing else."""
    s_G = torch.tensor(spreads, dtype=torch.float64)
    count_G = torch.arange(1, len(s_G) + 1, dtype=torch.float64)
    weight_G = GroupStandardizer().weights(s_G**2 * count_G, torch.zeros_like(s_G), count_G)
    b2_G = s_G * (count_G @ s_G) / (count_G @ s_G**2)
    torch.testing.assert_close(weight_G, b2_G.rsqrt())


def test_a_newly_live_coordinate_takes_the_scale_of_its_group():
    """One half of each group is never seen, and has its group's scale."""
    stage = GroupStandardizer(refresh=10)
    support_D = torch.arange(SPACE.size) % 2 == 0
    state = stage.init(context(SPACE), {})
    for t in range(10):
        release = release_of(
            SPREAD_D * normal(SPACE.size, seed=t), support_D=support_D, clock=Clock(t, 10)
        )
        state = stage.update(state, release, {})
    weight_D = state["weight_D"]
    assert weight_D[:EACH].unique().numel() == weight_D[EACH:].unique().numel() == 1
    assert ratio(state) > 1.5
    assert not bool(state["seen_D"][~support_D].any())


def test_a_group_that_was_never_live_takes_the_pooled_scale():
    """Weight 1 before normalising: only what was seen is normalised."""
    excess_G, count_G = torch.tensor([4.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    weight_G = GroupStandardizer(certainty=0.0).weights(
        excess_G.double(), torch.zeros(3).double(), count_G.double()
    )
    assert bool(weight_G.isfinite().all())
    assert float(weight_G[0]) < float(weight_G[2]) < float(weight_G[1])


def test_the_scales_change_only_at_a_refresh():
    stage = GroupStandardizer(refresh=7)
    state, changes = stage.init(context(SPACE), {}), []
    for t in range(30):
        release = release_of(SPREAD_D * normal(SPACE.size, seed=t), clock=Clock(t, 30))
        after = stage.update(state, release, {})
        if not torch.equal(after["weight_D"], state["weight_D"]):
            changes.append(t)
        state = after
    assert changes == [6, 13, 20, 27]
