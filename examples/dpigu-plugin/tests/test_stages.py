"""The stages conform, are found by name, and compute what their documentation says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from acme_dpigu import FanInScale, SoftClamp
from torch import Tensor

from dpigu import (
    AffineRestorer,
    AffineRowMap,
    ConformanceError,
    Flat,
    Gaussian,
    GrammarError,
    Phase,
    PhaseContext,
    Pipeline,
    Plan,
    Space,
    State,
    check_stage,
    lookup,
    parametrize_with_checks,
    plan_from_dict,
    plan_to_dict,
)

SPACE = Space(("layer.weight", "layer.bias"), ((2, 4), (2,)))


@parametrize_with_checks([FanInScale(), FanInScale(power=0.0), SoftClamp(), SoftClamp(limit=1e-3)])
def test_the_stages_pass_every_check(stage, check):
    check(stage)


@parametrize_with_checks([AffineRestorer(of="acme/fan-in-scale")])
def test_the_restorer_undoes_our_scale(stage, check):
    check(stage)


@pytest.mark.parametrize("cls", [FanInScale, SoftClamp])
def test_the_stages_are_found_by_name_and_say_who_brought_them(cls):
    entry = lookup(cls.stage_name)
    assert (entry.stage, entry.kind) == (cls, "row")
    assert entry.distribution == "dpigu-plugin-example"


def test_a_weight_is_divided_by_the_root_of_its_units_inputs_and_a_bias_is_left():
    state = FanInScale().init(PhaseContext(SPACE, torch.zeros(10), 1, 0), {})
    z_D = FanInScale().row(state, torch.ones(10))
    assert z_D.tolist() == [0.5] * 8 + [1.0] * 2


def test_the_clamp_leaves_small_coordinates_and_stops_large_ones():
    z_D = SoftClamp(limit=2.0).row({}, torch.tensor([1e-4, 2.0, -100.0]))
    assert z_D.tolist() == pytest.approx([1e-4, 2 * math.tanh(1), -2.0])
    assert not isinstance(SoftClamp(), AffineRowMap)


@pytest.mark.parametrize("make", [lambda: FanInScale(power=-1.0), lambda: SoftClamp(limit=0.0)])
def test_an_option_out_of_range_is_refused(make):
    with pytest.raises(GrammarError, match="out of range"):
        make()


def test_a_plan_with_both_stages_is_written_and_read_back():
    pipeline = Pipeline(
        clipper=Flat(bound=1.0),
        noiser=Gaussian(),
        rows=(SoftClamp(), FanInScale()),
        posts=(AffineRestorer(of="acme/fan-in-scale"),),
    )
    plan = Plan((Phase("main", pipeline, 10),))
    assert plan_from_dict(plan_to_dict(plan)) == plan


@dataclass(frozen=True, kw_only=True)
class LimitFromTheRows:
    """The mistake of the README: a limit learnt from the rows themselves.

    Privacy: none, and that is the point.
    """

    seen: ClassVar[list[Tensor]] = []

    def output_space(self, space: Space) -> Space:
        return space

    def row(self, state: State, g_D: Tensor) -> Tensor:
        self.seen.append(g_D.abs().max())
        return self.seen[0] * torch.tanh(g_D / self.seen[0])


def test_a_stage_that_remembers_rows_is_caught_and_told_where():
    with pytest.raises(ConformanceError) as caught:
        check_stage(LimitFromTheRows())
    assert caught.value.check == "writes-nothing"
    assert "LimitFromTheRows.seen" in str(caught.value)
    assert "Keep nothing between calls" in str(caught.value)
