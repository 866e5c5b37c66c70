"""Checks of row maps: one record in, its own row out, in the space that they declare."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from dpigu.audits.conformance.check import Broken, Subject, check, for_all, of_kind
from dpigu.audits.conformance.harness import Harness, each_step
from dpigu.audits.conformance.scenario import WIDE, Scenario, scenarios
from dpigu.audits.conformance.snapshots import bits
from dpigu.dpcore import Affine, AffineRowMap, Space
from dpigu.dpcore.grammar.stages import weighs_by_parameter
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

BAD = (0.0, float("nan"), float("inf"), 3e38, 1e-45)
ROUNDING = {torch.float32: 2.0**-18, torch.float64: 2.0**-44}
"""How far two ways of computing a row may be apart, relative to it."""


@check(
    "row-fits-its-space",
    guards="Noise is drawn on as many coordinates as the row has, one group of norms for each.",
    remedy="Let `output_space` give the space of what `row` returns, as a floating tensor.",
    applies=of_kind("row"),
)
def row_fits_its_space(subject: Subject) -> None:
    def fits(scenario: Scenario) -> None:
        for harness in each_step(subject, scenario):
            space = harness.input_space
            output = subject.stage.output_space(space)
            if not isinstance(output, Space):
                raise Broken("output_space gives no space", got=output)
            z_K = subject.stage.row(harness.state, scenario.rows(size=space.size)[0])
            if not z_K.is_floating_point() or tuple(z_K.shape) != (output.size,):
                raise Broken(
                    "a row is not a floating vector of the length that output_space says",
                    after=harness.done,
                    got=f"{tuple(z_K.shape)}, {z_K.dtype}",
                    expected=f"({output.size},)",
                )

    for_all(fits, share=0.5, scenario=scenarios(steps=(1, 3)))


@check(
    "row-is-local",
    guards="One record's row depends on that record alone, so that one record moves one row.",
    remedy="Write `row` for one record, with torch functions alone: no cache, no `.item()`, no "
    "branch on values; use torch.where.",
    applies=of_kind("row"),
)
def row_is_local(subject: Subject) -> None:
    def local(scenario: Scenario, bad: float) -> None:
        harness = Harness(subject, scenario).run()
        batch = _mapped(harness)
        size = harness.input_space.size
        g_BD, other_BD = (scenario.rows(which, size=size, count=5) for which in (0, 1))
        z_BK = batch(g_BD)
        for what, others in (("changes", 100 * other_BD), ("has bad values", other_BD * bad)):
            mixed = others.clone()
            mixed[1] = g_BD[1]
            if bits(batch(mixed)[1]) != bits(z_BK[1]):
                raise Broken(f"a record's row changes when another record {what}")
        order = torch.tensor([3, 0, 2, 1, 1])
        _agree("the order of records changes their rows", batch(g_BD[order]), z_BK[order])
        _agree("leaving records out changes the others' rows", batch(g_BD[1:3]), z_BK[1:3])
        for g_D, z_K in zip(g_BD, z_BK, strict=True):
            alone = subject.stage.row(harness.state, g_D)
            _agree("a row mapped over a batch is not the row by itself", z_K, alone)

    for_all(local, share=0.5, scenario=scenarios(steps=(1, 3)), bad=st.sampled_from(BAD))
    wide = scenarios((WIDE,), steps=(1,))
    for_all(local, share=0.04, scenario=wide, bad=st.sampled_from(BAD))


def _mapped(harness: Harness) -> Any:
    return vmap(partial(harness.stage.row, harness.state))


def _agree(problem: str, got: Tensor, expected: Tensor) -> None:
    """Equal to rounding, relative to the size of the whole."""
    size = float(expected.abs().max()) if expected.numel() else 0.0
    if not float((got - expected).abs().max()) <= ROUNDING[expected.dtype] * size:
        raise Broken(problem, got=got, expected=expected)


@check(
    "row-is-finite",
    guards="A record whose row is not finite counts for nothing: an ordinary one must not be lost.",
    remedy="Guard divisions and roots in `row`: coordinates can be 0, frozen or equal.",
    applies=of_kind("row"),
)
def row_is_finite(subject: Subject) -> None:
    def finite(scenario: Scenario, coordinates: list[float]) -> None:
        for harness in each_step(subject, scenario):
            g_D = filled(coordinates, harness.input_space.size, scenario.dtype)
            z_K = subject.stage.row(harness.state, g_D)
            if not bool(z_K.isfinite().all()):
                raise Broken("a finite row is mapped to one that is not", row=g_D, got=z_K)

    for_all(finite, scenario=scenarios(steps=(1, 3)), coordinates=COORDINATES)


COORDINATES = st.lists(st.sampled_from((0.0, 1.0, -2.0, 1e-12, -1e6)), min_size=1, max_size=3)


def filled(coordinates: list[float], size: int, dtype: torch.dtype) -> Tensor:
    """A row of a few values, repeated."""
    return torch.tensor((coordinates * size)[:size], dtype=dtype)


@check(
    "affine-is-row",
    guards="The fast engine computes with `affine` what the reference computes with `row`.",
    remedy="Compute `row` from `affine`: weight * g - shift, in the row's own dtype; say "
    "`weighs_by_parameter` only where a parameter's weights are equal.",
    applies=lambda stage: isinstance(stage, AffineRowMap),
)
def affine_is_row(subject: Subject) -> None:
    def equal(scenario: Scenario, coordinates: list[float]) -> None:
        for harness in each_step(subject, scenario):
            space, stage = harness.input_space, subject.stage
            if stage.output_space(space) != space:
                raise Broken("a diagonal map stays in its space", got=stage.output_space(space))
            weight_D, shift_D = _checked(stage.affine(harness.state), space.size)
            if weighs_by_parameter(stage):
                _check_by_parameter(space, weight_D)
            g_D = filled(coordinates, space.size, scenario.dtype)
            size_D = (weight_D * g_D).abs() + shift_D.abs()
            far_D = (stage.row(harness.state, g_D) - (weight_D * g_D - shift_D)).abs()
            if not bool((far_D <= ROUNDING[scenario.dtype] * size_D).all()):
                raise Broken(
                    "the declared map is not the row",
                    after=harness.done,
                    row=g_D,
                    got=weight_D * g_D - shift_D,
                    expected=stage.row(harness.state, g_D),
                )

    for_all(equal, scenario=scenarios(steps=(1, 3)), coordinates=COORDINATES)
    for_all(equal, share=0.12, scenario=scenarios((WIDE,), steps=(1,)), coordinates=COORDINATES)


def _check_by_parameter(space: Space, weight_D: Tensor) -> None:
    for name, weight in space.split(weight_D).items():
        if not bool((weight == weight.flatten()[0]).all()):
            problem = "one weight a parameter is declared, and there are more"
            raise Broken(problem, got=weight, parameter=name)


def _checked(affine: Affine, size: int) -> tuple[Tensor, Tensor]:
    weight_D, shift_D = affine.dense()
    for name, vector_D in (("weight", weight_D), ("shift", shift_D)):
        if tuple(vector_D.shape) != (size,) or not bool(vector_D.isfinite().all()):
            raise Broken(f"the {name} is not a finite vector of length {size}", got=vector_D)
    return weight_D.double(), shift_D.double()
