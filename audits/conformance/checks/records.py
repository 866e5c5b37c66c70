"""Checks of what looks at records: statistics, views; and of subspaces and decisions."""

from __future__ import annotations

from dataclasses import replace

import torch
from dpigu.audits.conformance.check import Broken, Subject, check, for_all, of_kind
from dpigu.audits.conformance.harness import Harness, each_step
from dpigu.audits.conformance.scenario import SHAPE, Scenario, released, scenarios
from dpigu.audits.conformance.snapshots import bits
from dpigu.dpcore import Released, Space
from dpigu.dpcore.grammar.stages import TrainingStatistic
from hypothesis import strategies as st
from torch.func import vmap

SLACK = 1e-6
"""How far the columns of a basis may be from orthonormal."""


@check(
    "statistic-fits-its-space",
    guards="Noise is drawn on as many coordinates as the statistic has, and each is divided once.",
    remedy="Let `row_space` give the space of what `row_of` returns, as a floating tensor.",
    applies=of_kind("statistic"),
)
def statistic_fits_its_space(subject: Subject) -> None:
    def fits(scenario: Scenario) -> None:
        for harness in each_step(subject, scenario):
            space = subject.stage.row_space(scenario.space, SHAPE)
            if not isinstance(space, Space):
                raise Broken("row_space gives no space", got=space)
            x_BX, y_B = scenario.records()
            row = harness.one(x_BX[0], y_B[0])
            if not row.is_floating_point() or tuple(row.shape) != (space.size,):
                raise Broken(
                    "a row is not a floating vector of the length that row_space says",
                    got=f"{tuple(row.shape)}, {row.dtype}",
                    expected=f"({space.size},)",
                )

    for_all(fits, share=0.5, scenario=scenarios(steps=(1, 2)))


@check(
    "record-is-local",
    guards="What is made of one record depends on that record alone, so that it moves one row.",
    remedy="Write the function for one record, with torch functions alone; draw nothing that "
    "records share.",
    applies=of_kind("statistic", "views"),
)
def record_is_local(subject: Subject) -> None:
    def local(scenario: Scenario, factor: float) -> None:
        harness = Harness(subject, scenario).run()
        x_BX, y_B = scenario.records()
        made = _seeded(harness, scenario.seed, x_BX, y_B)
        others, labels = scenario.records("others")
        others, labels = factor * others, labels.clone()
        others[1], labels[1] = x_BX[1], y_B[1]
        if bits(_seeded(harness, scenario.seed, others, labels)[1]) != bits(made[1]):
            raise Broken("what is made of a record changes with the others", factor=factor)

    for_all(
        local,
        share=0.5,
        scenario=scenarios(steps=(1, 2)),
        factor=st.sampled_from((1.0, 100.0, float("nan"), float("inf"))),
    )


def _seeded(harness: Harness, seed: int, x_BX: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
    """Every record's row or views, with torch's generator at a known place."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: torch.Tensor = vmap(harness.one, randomness="different")(x_BX, y_B)
    return made


@check(
    "gradient-fits",
    guards="Every weight moves by what was released, and optimizers are told how noisy it is.",
    remedy="Return release.gradient.derive(value, variance) of the parameters' length: under "
    "g = Jx the variance is J² times the variance.",
    applies=lambda stage: of_kind("statistic")(stage) and isinstance(stage, TrainingStatistic),
)
def gradient_fits(subject: Subject) -> None:
    def fits(scenario: Scenario) -> None:
        harness = Harness(subject, scenario)
        for _ in range(scenario.steps):
            release = harness.step()
            size, state, noisy = scenario.space.size, harness.state, release.gradient
            got = subject.stage.gradient(state, release)
            if not isinstance(got, Released):
                raise Broken("gradient gives no released vector", got=type(got).__name__)
            for name, vector in (("value", got.value), ("variance", got.variance)):
                if tuple(vector.shape) != (size,) or not bool(vector.isfinite().all()):
                    raise Broken(f"the {name} is not a finite vector of length {size}", got=vector)
            moved_D = torch.zeros(size, dtype=torch.float64)
            for e_K in torch.diag(noisy.variance.sqrt()):
                by_e = replace(release, gradient=noisy.derive(noisy.value + e_K, noisy.variance))
                moved_D += (subject.stage.gradient(state, by_e).value - got.value) ** 2
            scale = float((got.value**2 + moved_D + got.variance).max())
            if not bool(((moved_D - got.variance).abs() <= SLACK * scale).all()):
                raise Broken("the variance is not that of the noise", got=got.variance)

    for_all(fits, share=0.3, scenario=scenarios(steps=(1, 2)))


@check(
    "views-fit",
    guards="The gradients of a record's views are averaged over as many as it says.",
    remedy="Return `count` views of the record's own shape and dtype, one above the other.",
    applies=of_kind("views"),
)
def views_fit(subject: Subject) -> None:
    def fits(scenario: Scenario) -> None:
        x = scenario.records()[0][0]
        with torch.random.fork_rng(devices=[]):
            views = subject.stage.views(x)
        expected = (subject.stage.count, *SHAPE)
        if tuple(views.shape) != expected or views.dtype != x.dtype:
            raise Broken(
                "the views have another shape or dtype",
                got=f"{tuple(views.shape)}, {views.dtype}",
                expected=f"{expected}, {x.dtype}",
            )
        if not bool(views.isfinite().all()):
            raise Broken("a view of a finite record is not finite", got=views)

    for_all(fits, share=0.2, scenario=scenarios(steps=(1,)))


@check(
    "basis-is-orthonormal",
    guards="Projecting lengthens no row, and lifting brings the noise back as it was.",
    remedy="Return an orthonormal D × K matrix with K ≤ D: torch.linalg.qr of what you have.",
    applies=of_kind("subspace"),
)
def basis_is_orthonormal(subject: Subject) -> None:
    def orthonormal(scenario: Scenario) -> None:
        for harness in each_step(subject, scenario):
            basis_DK = subject.stage.basis(harness.state)
            size = scenario.space.size
            if basis_DK.dim() != 2 or not 1 <= basis_DK.shape[1] <= basis_DK.shape[0] == size:
                raise Broken(
                    "the basis is not D × K with K at most D",
                    got=tuple(basis_DK.shape),
                    expected=f"({size}, at most {size})",
                )
            basis_DK = basis_DK.to(torch.float64)
            far = basis_DK.T @ basis_DK - torch.eye(basis_DK.shape[1], dtype=torch.float64)
            if not float(far.abs().max()) <= SLACK:
                raise Broken("its columns are not orthonormal", after=harness.done, got=basis_DK)

    for_all(orthonormal, share=0.5, scenario=scenarios(steps=(1, 3)))


@check(
    "decision-decides",
    guards="Every look is paid for, and one that always says the same decides nothing.",
    remedy="Return a bool from `accepts`, computed from the released value alone.",
    applies=of_kind("decision"),
)
def decision_decides(subject: Subject) -> None:
    def answer(value: float) -> bool:
        one = torch.tensor([value], dtype=torch.float64)
        said = subject.stage.accepts(released(one, torch.ones_like(one)))
        if not isinstance(said, bool):
            raise Broken("the answer is no bool", value=value, got=type(said).__name__)
        return said

    said = {answer(sign * 10.0**k) for sign in (-1, 1) for k in range(-9, 10)}
    if len(said) < 2:
        raise Broken("it says the same to every released value", got=said)
