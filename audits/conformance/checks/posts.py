"""Checks of post maps: released in, released out, and a variance that is true."""

from __future__ import annotations

import torch
from dpigu.audits.conformance.check import Broken, Subject, check, for_all, of_kind
from dpigu.audits.conformance.checks.rows import COORDINATES, filled
from dpigu.audits.conformance.harness import Harness, each_step
from dpigu.audits.conformance.scenario import LAYERS, PAIR, Scenario, released, scenarios
from dpigu.dpcore import AffineRowMap, Released
from hypothesis import strategies as st
from torch import Tensor

CERTAIN = 1e-9
DRAWS = 2000


@check(
    "post-fits",
    guards="What leaves a post map is a released vector of the declared space, with its variance.",
    remedy="Return released.derive(value, variance), both of the length of `output_space`.",
    applies=of_kind("post"),
)
def post_fits(subject: Subject) -> None:
    def fits(scenario: Scenario, coordinates: list[float], variance: float) -> None:
        for harness in each_step(subject, scenario):
            size = harness.input_space.size
            value_K = filled(coordinates, size, torch.float64)
            given = released(value_K, torch.full_like(value_K, variance))
            out = subject.stage.apply(harness.state, given, harness.reads)
            if not isinstance(out, Released):
                raise Broken("apply gives no released vector", got=type(out).__name__)
            want = (subject.stage.output_space(harness.input_space).size,)
            for name, vector in (("value", out.value), ("variance", out.variance)):
                if tuple(vector.shape) != want or not bool(vector.isfinite().all()):
                    raise Broken(
                        f"the {name} is not a finite vector of length {want[0]}",
                        released=value_K,
                        got=vector,
                    )
            if bool((out.variance < 0).any()):
                raise Broken("a variance is negative", released=value_K, got=out.variance)

    strategies = {"coordinates": COORDINATES, "variance": st.sampled_from((1.0, 0.0, 1e-9))}
    for_all(fits, share=0.5, scenario=scenarios(steps=(1, 3)), **strategies)


@check(
    "variance-is-declared",
    guards="Later stages subtract the variance of the noise: what is declared is what there is.",
    remedy="Transform the variance with the value: under y = w·x it becomes w²·variance.",
    applies=of_kind("post"),
)
def variance_is_declared(subject: Subject) -> None:
    """Exact for a linear map; else the variance of 2000 draws is at most 1.3 times the declared.

    False alarms: below 1e-9 for noise that stays normal (9 standard errors); the draws are fixed.
    """

    def declared(scenario: Scenario) -> None:
        harness = Harness(subject, scenario).run()
        size = harness.input_space.size
        value_K = scenario.rows("value", size=size)[0].double()
        variance_K = (
            scenario.scale * (0.5 + scenario.normal("variance", size=size).double().abs())
        ) ** 2
        out = subject.stage.apply(harness.state, released(value_K, variance_K), harness.reads)
        exact = _linear_variance(harness, value_K, variance_K)
        if exact is None:
            found = _drawn_variance(harness, value_K, variance_K)
            wrong = found > 1.3 * out.variance + 1e-12 * scenario.scale**2
        else:
            found = exact
            wrong = (found - out.variance).abs() > CERTAIN * found
        if bool(wrong.any()):
            raise Broken(
                "the declared variance is not that of the noise",
                coordinate=int(wrong.nonzero()[0]),
                got=out.variance[wrong],
                expected=found[wrong],
            )

    for_all(declared, share=0.2, scenario=scenarios((PAIR, LAYERS), steps=(1, 3)))


def _apply(harness: Harness, value_K: Tensor, variance_K: Tensor) -> Tensor:
    given = released(value_K, variance_K)
    value: Tensor = harness.stage.apply(harness.state, given, harness.reads).value
    return value


def _linear_variance(harness: Harness, x_K: Tensor, variance_K: Tensor) -> Tensor | None:
    """Σ_j J_ij² v_j, if the map is affine in the released value; else None."""
    origin = _apply(harness, x_K, variance_K)
    size = float(x_K.abs().max()) + float(origin.abs().max())
    steps_KK = size * torch.eye(len(x_K), dtype=torch.float64)
    columns = [_apply(harness, x_K + e_K, variance_K) - origin for e_K in steps_KK]
    jacobian = torch.stack(columns, dim=1) / size
    for k in range(3):
        move_K = size * 100**k * harness.scenario.normal("move", k, size=len(x_K)).double()
        got = _apply(harness, x_K + move_K, variance_K) - origin
        want = jacobian @ move_K
        rounding = CERTAIN * (want.abs().max() + origin.abs().max())
        if not bool(((got - want).abs() <= rounding).all()):
            return None
    return (jacobian**2) @ variance_K


def _drawn_variance(harness: Harness, x_K: Tensor, variance_K: Tensor) -> Tensor:
    noise = harness.scenario.normal("draws", size=len(x_K), count=DRAWS).double()
    values = [_apply(harness, x_K + variance_K.sqrt() * n_K, variance_K) for n_K in noise]
    return torch.stack(values).var(dim=0)


@check(
    "restores-what-it-names",
    guards="A restorer takes a standardized row back to the gradient that it came from.",
    remedy="Compute row and restorer from one affine map: (z + shift) / weight undoes "
    "weight * g - shift; √β + μ is not √(β + μ).",
    applies=lambda stage: of_kind("post")(stage) and hasattr(stage, "of"),
)
def restores_what_it_names(subject: Subject) -> None:
    def restores(scenario: Scenario, coordinates: list[float]) -> None:
        for harness in each_step(subject, scenario):
            standardizer, state = harness.reads[subject.stage.of]
            g_D = filled(coordinates, scenario.space.size, torch.float64)
            z_D = standardizer.row(state, g_D)
            back_D = _apply(harness, z_D, torch.ones_like(z_D))
            allowed_D = CERTAIN * 1e-3 * g_D.abs()
            kept_D = torch.ones_like(g_D, dtype=torch.bool)
            if isinstance(standardizer, AffineRowMap):
                weight_D, shift_D = standardizer.affine(state).dense()
                allowed_D = allowed_D + CERTAIN * 1e-3 * (shift_D / weight_D).abs()
                kept_D = weight_D != 0
            wrong_D = kept_D & ~((back_D - g_D).abs() <= allowed_D)
            if bool(wrong_D.any()):
                raise Broken(
                    "what it restores is not the gradient",
                    after=harness.done,
                    gradient=g_D,
                    got=back_D,
                )

    for_all(restores, scenario=scenarios(steps=(1, 3)), coordinates=COORDINATES)
