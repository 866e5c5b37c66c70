"""A pipeline checks itself when it is built: what is wrong, where, both values, the remedy."""

from __future__ import annotations

import math

import dp_accounting
import pytest
from dpigu.dpcore import GrammarError, Pipeline, Space
from dpigu.mechanisms import (
    AffineRestorer,
    EmaStandardizer,
    Flat,
    Gaussian,
    MeanAbsolute,
    RowTopK,
    TopK,
    Unclipped,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support.zoo.strange_stages import FirstHalf, Padded, Share, Warm

C, SIGMA = Flat(bound=1.0), Gaussian()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"clipper": SIGMA},
            "Pipeline.clipper: this slot takes a clipper "
            "(got gaussian, which is a noiser, expected clipper). "
            "See the table of kinds in the documentation, or `dpigu stages`.",
        ),
        (
            {"noiser": 1.0},
            "Pipeline.noiser: this slot takes a noiser "
            "(got float, which is no stage, expected noiser). "
            "See the table of kinds in the documentation, or `dpigu stages`.",
        ),
        (
            {"scorer": MeanAbsolute},
            "Pipeline.scorer: a stage is an instance, and this is its class "
            "(got MeanAbsolute). Write MeanAbsolute(...).",
        ),
        (
            {"noiser": Warm()},
            "Pipeline.noiser: Warm: a stage must be a frozen dataclass, so that nothing can be "
            "kept in it. Decorate the class with @dataclass(frozen=True, kw_only=True).",
        ),
        (
            {"rows": [RowTopK()]},
            "Pipeline.rows: this slot takes a tuple of stages, in order (got list). "
            "Write rows=(stage,), with the comma.",
        ),
        (
            {"posts": AffineRestorer()},
            "Pipeline.posts: this slot takes a tuple of stages, in order (got AffineRestorer). "
            "Write posts=(stage,), with the comma.",
        ),
        (
            {"scheduler": TopK(reads=("flat",))},
            "Pipeline.scheduler: top-k: it reads 'flat', which starts after it "
            "(got flat, expected one of []).",
        ),
        (
            {"noiser": Gaussian(noise_multiplier=-1.0)},
            "Pipeline.noiser: the noise multiplier must be finite and not negative (got -1.0).",
        ),
        (
            {"noiser": Gaussian(noise_multiplier=math.nan)},
            "Pipeline.noiser: the noise multiplier must be finite and not negative (got nan).",
        ),
        (
            {"clipper": Unclipped()},
            "Pipeline.clipper: noise cannot be calibrated: the clipper declares no finite bound "
            "in range (got inf, expected a number from 2⁻²⁰⁰ to 2²⁰⁰). Use a clipper with a bound, "
            "such as flat, or a noise multiplier of 0.",
        ),
        (
            {"queries": (Share(bound=math.inf),)},
            "Pipeline.queries: Share: a query needs a finite bound in range and a noise ratio "
            "above 0 (got bound inf, noise_ratio 1.0, expected a number from 2⁻²⁰⁰ to 2²⁰⁰).",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_it(options, line):
    with pytest.raises(GrammarError) as caught:
        Pipeline(**{"clipper": C, "noiser": SIGMA, **options})
    assert str(caught.value) == line


@pytest.mark.parametrize("bound", [2.0**-200, 2.0**200])
def test_the_range_of_a_bound_is_exact(bound):
    """Within it the guard's squares neither under- nor overflow; both ends belong to it."""
    assert Pipeline(clipper=Flat(bound=bound), noiser=SIGMA).private
    beyond = math.nextafter(bound, 0.0 if bound < 1 else math.inf)
    with pytest.raises(GrammarError, match="in range"):
        Pipeline(clipper=Flat(bound=beyond), noiser=SIGMA)


def test_an_error_carries_the_offending_values():
    with pytest.raises(GrammarError) as caught:
        Pipeline(clipper=C, noiser=Gaussian(noise_multiplier=-2.0))
    assert caught.value.got == -2.0 and caught.value.where == "Pipeline.noiser"


def test_a_stage_may_read_those_that_start_before_it():
    pipeline = Pipeline(
        clipper=C,
        noiser=SIGMA,
        scorer=MeanAbsolute(),
        scheduler=TopK(reads=("mean-abs",)),
        rows=(EmaStandardizer(),),
        posts=(AffineRestorer(of="row"),),
    )
    assert [p.slot for p in pipeline.placed] == [
        "scorer",
        "scheduler",
        "row",
        "clipper",
        "noiser",
        "post",
    ]


def test_two_stages_of_one_name_are_told_apart():
    pipeline = Pipeline(clipper=C, noiser=SIGMA, rows=(RowTopK(), RowTopK(ratio=0.1)))
    assert [p.name for p in pipeline.of("row")] == ["row-top-k", "row-top-k.2"]
    assert pipeline.name_in("clipper") == "flat"


def test_row_maps_into_another_space_need_a_post_map_that_leads_back():
    space = Space.flat("all", 6)
    there = Pipeline(clipper=C, noiser=SIGMA, rows=(FirstHalf(),))
    with pytest.raises(GrammarError, match=r"got 3 coordinates, expected 6 coordinates"):
        there.check(space)
    back = Pipeline(clipper=C, noiser=SIGMA, rows=(FirstHalf(),), posts=(Padded(size=6),))
    assert back.check(space).size == 3


@given(
    st.floats(0.1, 10),
    st.lists(st.floats(0.1, 10), max_size=3),
)
def test_gradient_and_queries_are_one_joint_gaussian(multiplier, ratios):
    """z_eff⁻² = z⁻² + Σ (z · ratio)⁻²."""
    pipeline = Pipeline(
        clipper=C,
        noiser=Gaussian(noise_multiplier=multiplier),
        queries=tuple(Share(noise_ratio=ratio) for ratio in ratios),
    )
    event = pipeline.event()
    assert isinstance(event, dp_accounting.GaussianDpEvent)
    precision = multiplier**-2 + sum((multiplier * ratio) ** -2 for ratio in ratios)
    assert event.noise_multiplier == pytest.approx(precision**-0.5)


def test_without_noise_the_event_is_non_private():
    pipeline = Pipeline(clipper=C, noiser=Gaussian(noise_multiplier=0.0))
    assert pipeline.event() == dp_accounting.NonPrivateDpEvent()
    assert not pipeline.private


@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_scaling_the_noise_changes_nothing_else(multiplier, factor):
    pipeline = Pipeline(clipper=C, noiser=Gaussian(noise_multiplier=multiplier), rows=(RowTopK(),))
    scaled = pipeline.scaled_noise(factor)
    assert scaled.noiser.noise_multiplier == multiplier * factor
    assert (scaled.clipper, scaled.rows) == (pipeline.clipper, pipeline.rows)
