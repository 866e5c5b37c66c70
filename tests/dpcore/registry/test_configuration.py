"""Plans as plain data: round trips lose nothing, and a wrong key or value is named."""

from __future__ import annotations

import tomllib
from typing import Literal

import pytest
import tomli_w
from dpigu.dpcore import Adjacency, ConfigurationError, Phase, Pipeline, Plan, RegistryError
from dpigu.dpcore.registry.configuration import plan_from_dict, plan_to_dict, typed
from dpigu.mechanisms import (
    AffineRestorer,
    Coherent,
    CosineUnfreeze,
    EmaStandardizer,
    ExponentialUnfreeze,
    Flat,
    Gaussian,
    GroupStandardizer,
    LinearUnfreeze,
    MaskedWeights,
    MeanAbsolute,
    Random,
    RandomFreeze,
    RowTopK,
    StepUnfreeze,
    TopK,
    WeightMagnitude,
)
from hypothesis import given
from hypothesis import strategies as st

SHARE = st.floats(0.01, 1.0)
SCORERS = st.sampled_from([MeanAbsolute(), Coherent(), Random(), WeightMagnitude()])
SCHEDULERS = st.one_of(
    st.builds(TopK, ratio=SHARE),
    st.builds(RandomFreeze, ratio=SHARE, end=SHARE),
    st.builds(StepUnfreeze, ratio=SHARE, levels=st.integers(2, 9)),
    st.builds(
        lambda cls, ratio: cls(ratio=ratio),
        st.sampled_from([LinearUnfreeze, CosineUnfreeze, ExponentialUnfreeze]),
        SHARE,
    ),
)
GROUPED = st.builds(
    GroupStandardizer,
    grouping=st.sampled_from(["all", "parameter", "layer", "filter"]),
    refresh=st.integers(1, 100),
    certainty=st.floats(0, 5),
)
ROWS = st.sampled_from([(), ("ema",), ("group",), ("top-k",), ("ema", "top-k")])


@st.composite
def plans(draw):
    """Plans of one to three phases of every kind of built-in stage."""
    phases = []
    for number in range(draw(st.integers(1, 3))):
        made = {
            "ema": EmaStandardizer(gamma2=draw(st.floats(0, 0.99))),
            "group": draw(GROUPED),
            "top-k": RowTopK(ratio=draw(SHARE)),
        }
        chosen = draw(ROWS)
        of = {"ema": "ema-standardizer", "group": "group-standardizer"}
        pipeline = Pipeline(
            clipper=Flat(bound=draw(st.floats(1e-9, 1e9))),
            noiser=Gaussian(noise_multiplier=draw(st.floats(0.01, 100))),
            scorer=draw(SCORERS),
            scheduler=draw(st.none() | SCHEDULERS),
            point=draw(st.none() | st.just(MaskedWeights())),
            rows=tuple(made[key] for key in chosen),
            posts=tuple(AffineRestorer(of=of[key]) for key in chosen if key in of),
        )
        inherits = draw(st.sampled_from([(), ("weights",), ("weights", "optimizer")]))
        phases.append(Phase(f"phase {number}", pipeline, draw(st.integers(1, 9999)), inherits))
    return Plan(tuple(phases), draw(st.sampled_from(Adjacency)))


@given(plans())
def test_a_plan_survives_a_round_trip_through_toml(plan):
    table = plan_to_dict(plan)
    assert plan_from_dict(tomllib.loads(tomli_w.dumps(table))) == plan


@given(plans())
def test_another_option_is_another_plan(plan):
    for number in range(len(plan.phases)):
        for slot, option in (("clipper", "bound"), ("noiser", "noise_multiplier")):
            table = plan_to_dict(plan)
            table["phase"][number][slot][option] *= 2
            assert plan_from_dict(table) != plan


def table():
    return {
        "phase": [
            {
                "name": "main",
                "steps": 10,
                "clipper": {"stage": "flat", "bound": 1.0},
                "noiser": {"stage": "gaussian"},
                "rows": [{"stage": "row-top-k"}],
            }
        ]
    }


def changed(path, value):
    """The table above with one entry set, or left out if the value is None."""
    whole = table()
    *parents, last = path
    inner = whole
    for key in parents:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return whole


def test_what_is_left_out_has_its_default():
    (phase,) = plan_from_dict(table()).phases
    assert phase.pipeline.noiser == Gaussian()
    assert phase.inherits == ("weights", "optimizer")


P = ("phase", 0)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("phaze",), [], "plan: unknown key 'phaze' (got phaze, expected phase)."),
        ((*P, "clippr"), {}, "plan.phase[0]: unknown key 'clippr' (got clippr, expected clipper)."),
        (
            (*P, "clipper", "bond"),
            1.0,
            "plan.phase[0].clipper: unknown key 'bond' (got bond, expected bound).",
        ),
        ((*P, "clipper", "bound"), None, "plan.phase[0].clipper: the option 'bound' is missing."),
        ((*P, "noiser"), None, "plan.phase[0]: the key 'noiser' is missing."),
        (("phase",), None, "plan: a plan needs phases (expected [[phase]] tables)."),
        (
            (*P, "clipper", "bound"),
            "1",
            "plan.phase[0].clipper.bound: a value of the wrong type (got 1, expected float).",
        ),
        (
            (*P, "steps"),
            1.5,
            "plan.phase[0].steps: a value of the wrong type (got 1.5, expected int).",
        ),
        (
            (*P, "clipper"),
            {"bound": 1.0},
            "plan.phase[0].clipper: a stage is a table that names it "
            "(got {'bound': 1.0}, expected stage = \"…\").",
        ),
        (
            (*P, "clipper", "stage"),
            7,
            "plan.phase[0].clipper.stage: a value of the wrong type (got 7, expected str).",
        ),
        (
            (*P, "rows", 0, "stage"),
            "affine-restorer",
            "plan.phase[0].rows[0]: a stage of another kind "
            "(got affine-restorer, a post, expected a row).",
        ),
        (
            ("adjacency",),
            "remove-two",
            "plan.adjacency: a value of the wrong type (got remove-two, expected Adjacency).",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_nearest_right_one(path, value, line):
    with pytest.raises(ConfigurationError) as caught:
        plan_from_dict(changed(path, value))
    assert str(caught.value).startswith(line)


def test_an_unknown_stage_is_answered_with_the_nearest():
    with pytest.raises(RegistryError, match="got flatt, expected flat"):
        plan_from_dict(changed((*P, "clipper", "stage"), "flatt"))


@pytest.mark.parametrize(
    ("value", "hint", "result"),
    [
        (1, float, 1.0),
        (True, bool, True),
        ("a", Literal["a", "b"], "a"),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        (None, float | None, None),
        (0.5, float | None, 0.5),
        ("replace-one", Adjacency, Adjacency.REPLACE_ONE),
    ],
)
def test_a_value_of_the_right_type_is_taken(value, hint, result):
    taken = typed(value, hint, "here")
    assert taken == result and type(taken) is type(result)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, float),
        (True, int),
        (1, bool),
        (1.0, int),
        (3, str),
        ("c", Literal["a", "b"]),
        (["a"], tuple[int, ...]),
        (None, float),
        ("other", Adjacency),
    ],
)
def test_a_value_of_another_type_is_refused(value, hint):
    with pytest.raises(ConfigurationError, match=r"here: an? (value of the|unknown)"):
        typed(value, hint, "here")
