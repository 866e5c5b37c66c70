"""Every preset runs on the kernel, survives a round trip, and is the plan it says it is."""

from __future__ import annotations

import math
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import dp_accounting
import pytest
import tomli_w
import torch
from dpigu.dpcore import GrammarError, PoissonSampler, RegistryError, describe
from dpigu.dpcore.registry.configuration import plan_from_dict, plan_to_dict
from dpigu.mechanisms import (
    PRESETS,
    Automatic,
    MacAdam,
    MaskedWeights,
    PerGroup,
    PublicSubspace,
    Quantile,
    Sharpness,
    SoftThreshold,
    adadpigu,
    adadpigu_paper,
)
from dpigu.mechanisms.presets.preset import preset
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, normal, steps_of

NAMES = sorted(PRESETS)
PRIVATE = [name for name in NAMES if name != "non-private"]
TWO_PHASES = ["adadpigu", "adadpigu-paper"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
STEPS = 20


def gradients(step, context):
    """Four records' gradients, of different sizes."""
    size = SPACE.size if context is None else context.transform.space.size
    return torch.tensor([0.01, 0.1, 1.0, 10.0])[:, None] * normal(4, size, seed=step).float()


def shrinks(plan):
    """Whether a post map of the plan sets coordinates to 0."""
    return any(isinstance(p, SoftThreshold) for phase in plan.phases for p in phase.pipeline.posts)


def every_plan():
    yield from ((name, PRESETS[name].plan(STEPS)) for name in NAMES)


PLANS = [pytest.param(plan, id=name) for name, plan in every_plan()]


def test_the_presets_are_those_that_are_documented():
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert sorted(set(rows)) == NAMES
    assert all(name == preset.name and preset.summary for name, preset in PRESETS.items())


def test_a_name_belongs_to_one_preset():
    assert list(PRESETS) == NAMES
    with pytest.raises(RegistryError, match="dpsgd: two presets have one name"):
        preset("dpsgd")(adadpigu)
    assert PRESETS["adadpigu"].plan is adadpigu


@pytest.mark.parametrize("name", NAMES)
@given(steps=st.integers(2, 5000))
def test_a_plan_takes_exactly_the_steps_it_was_given(name, steps):
    assert PRESETS[name].plan(steps).steps == steps


@given(steps=st.integers(2, 500), share=st.floats(0.0, 1.0))
def test_pretraining_is_a_public_share_of_the_steps_and_each_phase_has_one(steps, share):
    before, after = (phase.steps for phase in adadpigu(steps, pretraining=share).phases)
    assert before + after == steps and before >= 1 and after >= 1
    assert abs(before - share * steps) <= 1


@pytest.mark.parametrize("name", TWO_PHASES)
def test_two_phases_need_two_steps(name):
    with pytest.raises(GrammarError, match="a phase needs a whole number of steps, at least one"):
        PRESETS[name].plan(1)


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_survives_a_round_trip_through_toml(plan):
    text = tomli_w.dumps(plan_to_dict(plan))
    assert plan_from_dict(tomllib.loads(text)) == plan


@pytest.mark.parametrize("plan", PLANS)
def test_off_the_support_rows_and_releases_are_exactly_zero(plan):
    for _, context, release, _ in steps_of(plan, SPACE, gradients):
        frozen_D = ~release.support_D
        rows_BD = context.transform(gradients(0, context))
        if context.transform.output == context.transform.space:
            assert bool((rows_BD[:, frozen_D] == 0).all())
        assert bool((release.gradient.value[frozen_D] == 0).all())
        assert bool((release.gradient.variance[frozen_D] == 0).all())
        assert bool(release.gradient.value.isfinite().all())
        if plan.private and not shrinks(plan):
            assert bool((release.gradient.value[release.support_D] != 0).all())
            assert bool((release.gradient.variance[release.support_D] > 0).all())


@pytest.mark.parametrize("name", TWO_PHASES)
def test_the_main_phase_starts_at_the_best_scores_of_pretraining_and_ends_with_all(name):
    plan = PRESETS[name].plan(STEPS)
    ratio = plan.phases[1].pipeline.scheduler.ratio
    steps = list(steps_of(plan, SPACE, gradients))
    before = [step for step in steps if step[0] == "pretraining"]
    main = [step for step in steps if step[0] == "main"]
    released_TD = torch.stack([release.gradient.value for _, _, release, _ in before])
    score_D = released_TD.sum(0).abs() if name == "adadpigu" else released_TD.abs().sum(0)
    top_D = score_D.argsort(descending=True)[: int(ratio * SPACE.size)]
    supports = [release.support_D for _, _, release, _ in main]
    assert set(supports[0].nonzero().flatten().tolist()) == set(top_D.tolist())
    assert bool(supports[-1].all())
    assert all(int(a.sum()) <= int(b.sum()) for a, b in pairwise(supports))


def test_the_ratio_can_be_set():
    (_, first, *_) = list(steps_of(adadpigu(2, ratio=0.3), SPACE, gradients))
    assert int(first[2].support_D.sum()) == int(0.3 * SPACE.size)


def test_the_paper_s_preset_has_the_stages_of_the_paper():
    before, main = adadpigu_paper(STEPS).phases
    assert [p.name for p in before.pipeline.placed] == ["mean-abs", "flat", "gaussian"]
    assert [p.name for p in main.pipeline.placed] == [
        "linear-unfreeze",
        "masked-weights",
        "ema-standardizer",
        "row-top-k",
        "flat",
        "gaussian",
        "affine-restorer",
    ]
    assert PRESETS["adadpigu-paper"].training["momentum"] == 0  # line 14 is plain SGD


def test_the_paper_s_rows_keep_a_share_of_the_live_coordinates():
    """Section 4: of 24 coordinates 14 are live at the first step, and 8 of them are kept."""
    assert SPACE.size == 24
    plan = adadpigu_paper(2)
    (_, (_, step, release, _)) = list(steps_of(plan, SPACE, gradients))
    kept_B = (step.transform(gradients(1, None)) != 0).sum(1)
    assert int(release.support_D.sum()) == 14 and kept_B.tolist() == [8] * 4


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("dp-macadam", MacAdam(decay=0.9, least=1e-9, most=1e-6)),
        ("pdp-sgd-public", PublicSubspace(size=50, public_records=100, every=1)),
        ("dp-sat", Sharpness(radius=0.03)),
        ("dp-muon", PerGroup(bound=0.5, groups="parameter", weights="equal")),
        ("automatic-clipping", Automatic(bound=0.5, gamma=0.01)),
        ("quantile-clipping", Quantile(bound=0.5, quantile=0.5, rate=0.2)),
    ],
)
def test_a_preset_has_its_authors_constants(name, stage):
    (phase,) = PRESETS[name].plan(STEPS).phases
    assert stage in [placed.stage for placed in phase.pipeline.placed]


def test_masked_weights_puts_frozen_weights_to_zero_and_leaves_the_others():
    """Algorithm 2, line 8; a frozen weight that is not finite is gone too."""
    weights_D = torch.tensor([1.0, -2.0, torch.inf, 4.0])
    support_D = torch.tensor([True, False, False, True])
    at_D = MaskedWeights().at({}, weights_D, support_D)
    assert torch.equal(at_D, torch.tensor([1.0, 0.0, 0.0, 4.0]))
    assert at_D.dtype == weights_D.dtype


@pytest.mark.parametrize("name", PRIVATE)
def test_every_step_of_every_phase_is_charged(name):
    plan = PRESETS[name].plan(STEPS)
    event = plan.scaled_noise(2.5).event(PoissonSampler(0.1, 1000))
    paid = [math.ceil(phase.steps / phase.period) for phase in plan.phases]
    assert [e.count for e in event.events] == paid
    for phase, step in zip(plan.phases, event.events, strict=True):
        joint = 2.5 / math.sqrt(1 + sum(q.noise_ratio**-2 for q in phase.pipeline.queries))
        one = dp_accounting.GaussianDpEvent(joint)
        if not phase.pipeline.endless:
            one = dp_accounting.PoissonSampledDpEvent(0.1 * phase.period, one)
        if phase.selective_update is None:
            assert step.event == one
            continue
        look = phase.selective_update
        looked = 2.5 * look.pipeline.noiser.noise_multiplier
        selective_update = dp_accounting.PoissonSampledDpEvent(
            0.1 * look.share, dp_accounting.GaussianDpEvent(looked)
        )
        assert step.event.events == [one, selective_update]


def test_the_non_private_preset_claims_nothing_and_says_so():
    plan = PRESETS["non-private"].plan(STEPS)
    assert not plan.private
    assert isinstance(plan.event(PoissonSampler(0.1, 1000)), dp_accounting.NonPrivateDpEvent)
    (guarantee,) = describe(plan)
    assert "no privacy" in guarantee.statement
    for _, _, release, _ in steps_of(plan, SPACE, gradients):
        g_BD = gradients(release.clock.step, None)
        torch.testing.assert_close(release.gradient.value, g_BD.double().sum(0) / 4)
