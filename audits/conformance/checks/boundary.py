"""Checks of clippers and queries: what one record can weigh, in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import get_args

import torch
from dpigu.audits.conformance.check import Broken, Subject, check, for_all, of_kind
from dpigu.audits.conformance.harness import Harness, each_step
from dpigu.audits.conformance.scenario import Scenario, scenarios
from dpigu.audits.conformance.snapshots import bits
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.dpcore.grammar.stages import size_of
from dpigu.dpcore.kernel import guarded_factors
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

NORM = st.sampled_from((0.0, 1.0, 5e-324, 1e-38, 1e-7, 0.999, 1e38, 1e300)) | st.floats(0, 1e4)
NORMS = st.lists(NORM, min_size=1, max_size=4)
SLACK = Fraction(1, 2**40)
"""What rounding may add to a norm that a stage computes; the kernel's own guard adds nothing."""
LARGE = (1e-6, 1e-3, 1.0, 1e3, 1e6, 1e12)


def norms_of(values: list[float], groups: int) -> Tensor:
    """One record's norms from a few values, repeated."""
    return torch.tensor((values * groups)[:groups], dtype=torch.float64)


def squared(vector: Tensor) -> Fraction:
    """The squared ℓ₂ norm in exact arithmetic."""
    return sum((Fraction(x) ** 2 for x in vector.double().tolist()), Fraction(0))


@check(
    "bound-is-declared",
    guards="Noise is calibrated to the declared bound: a number above 0, at every state.",
    remedy="Return torch.tensor(C, dtype=torch.float64) from `joint_bound`, with 0 < C.",
    applies=of_kind("clipper"),
)
def bound_is_declared(subject: Subject) -> None:
    def declared(scenario: Scenario) -> None:
        stage = subject.stage
        if stage.groups not in get_args(Grouping):
            raise Broken("groups are none of the known ones", got=stage.groups)
        for harness in each_step(subject, scenario):
            bound = stage.joint_bound(harness.state)
            layout = (tuple(bound.shape), bound.dtype)
            if layout != ((), torch.float64):
                raise Broken("the bound is not one float64 number", got=layout)
            if not float(bound) > 0:
                raise Broken("the bound is not above 0", after=harness.done, got=float(bound))
            if harness.pipeline.stages.private and not math.isfinite(float(bound)):
                raise Broken("a bound for noise is not finite", after=harness.done)

    for_all(declared, share=0.5, scenario=scenarios())


@check(
    "factors-fit",
    guards="Each group of coordinates is scaled by its own finite factor, never reversed.",
    remedy="Return one factor ≥ 0 for every norm in `norms_G`; a norm can be 0 or very large.",
    applies=of_kind("clipper"),
)
def factors_fit(subject: Subject) -> None:
    def fit(scenario: Scenario, norms: list[float]) -> None:
        for harness in each_step(subject, scenario):
            norms_G = norms_of(norms, harness.groups)
            c_BG = vmap(partial(subject.stage.factors, harness.state))(norms_G[None])
            if c_BG.shape != (1, harness.groups):
                raise Broken("there is not one factor for every norm", norms=norms_G, got=c_BG[0])
            if not bool((c_BG.isfinite() & (c_BG >= 0)).all()):
                raise Broken("a factor is negative or not finite", norms=norms_G, got=c_BG[0])

    for_all(fit, scenario=scenarios(steps=(1, 3)), norms=NORMS)


@check(
    "factor-is-local",
    guards="One record's factors and answers depend on its own norms alone: else one record moves "
    "every other's share of the sum.",
    remedy="Write the function for one record, with torch functions alone: no cache, no `.item()`.",
    applies=of_kind("clipper", "query"),
)
def factor_is_local(subject: Subject) -> None:
    def local(scenario: Scenario, norms: list[float], size: float) -> None:
        harness = Harness(subject, scenario).run()
        first_G = norms_of(norms, harness.groups)
        batches = [torch.stack([first_G, other * torch.ones_like(first_G)]) for other in (1, size)]
        one, other = (vmap(partial(_private, harness))(batch)[0] for batch in batches)
        if bits(one) != bits(other):
            raise Broken("it changes when another record does", norms=first_G, got=(one, other))
        alone = _private(harness, first_G)
        if not torch.allclose(one, alone, rtol=1e-9, atol=0, equal_nan=True):
            raise Broken("it is another by itself", norms=first_G, got=one, expected=alone)

    size = st.sampled_from((1e6, 0.0, float("inf")))
    for_all(local, scenario=scenarios(steps=(1, 3)), norms=NORMS, size=size)


def _private(harness: Harness, norms_G: Tensor) -> Tensor:
    """What the stage computes from one record's norms."""
    stage = harness.stage
    if harness.kind == "query":
        return stage.vector(harness.state, norms_G, harness.reads)  # type: ignore[no-any-return]  # a stage is Any
    return stage.factors(harness.state, norms_G)  # type: ignore[no-any-return]  # a stage is Any


@check(
    "clipped-norm-keeps-the-bound",
    guards="No record weighs more than the declared bound, whatever its norms are.",
    remedy="Declare the joint bound √Σ_g (factor · norm)² that the factors reach, or lower them.",
    applies=of_kind("clipper"),
)
def clipped_norm_keeps_the_bound(subject: Subject) -> None:
    def keeps(scenario: Scenario, norms: list[float]) -> None:
        harness = Harness(subject, scenario).run()
        bound = harness.pipeline.bound(harness.states)
        if not math.isfinite(float(bound)):
            return
        norms_G = norms_of(norms, harness.groups)
        own_G = subject.stage.factors(harness.state, norms_G)
        if not bool(own_G.isfinite().all()):
            raise Broken("a factor is not finite", norms=norms_G, got=own_G)
        exact = Fraction(float(bound)) ** 2
        if _weight(own_G, norms_G) > exact * (1 + SLACK):
            raise Broken(
                "a clipped row is longer than the declared bound",
                norms=norms_G,
                got=math.sqrt(_weight(own_G, norms_G)),
                expected=f"at most {float(bound)!r}",
            )
        guarded, _ = guarded_factors(subject.stage, harness.state, norms_G[None], bound)
        if _weight(guarded[0], norms_G) > exact:
            raise Broken("the guard does not hold the bound", norms=norms_G, got=guarded[0])

    for_all(keeps, scenario=scenarios(steps=(1, 3)), norms=NORMS)


def _weight(factors_G: Tensor, norms_G: Tensor) -> Fraction:
    pairs = zip(factors_G.double().tolist(), norms_G.tolist(), strict=True)
    return sum(((Fraction(c) * Fraction(n)) ** 2 for c, n in pairs), Fraction(0))


@check(
    "bound-is-reached",
    guards="Noise is not drawn for a bound that no record comes near.",
    remedy="Declare the bound that long rows reach after clipping.",
    applies=of_kind("clipper"),
)
def bound_is_reached(subject: Subject) -> None:
    def reached(scenario: Scenario) -> None:
        harness = Harness(subject, scenario).run()
        bound = float(harness.pipeline.bound(harness.states))
        if not math.isfinite(bound):
            return
        clipped = []
        for size in LARGE:
            norms_G = norms_of([size * bound], harness.groups)
            clipped.append(float((subject.stage.factors(harness.state, norms_G) * norms_G).norm()))
        longest = max(clipped)
        if longest < bound / 2:
            raise Broken("long rows are clipped to less than half", got=longest, expected=bound)

    for_all(reached, share=0.2, scenario=scenarios(steps=(1, 3)))


@check(
    "query-keeps-its-bound",
    guards="No record's answer weighs more than the bound to which the query's noise is scaled.",
    remedy="Declare the largest norm that `vector` can have, or scale the vector down.",
    applies=of_kind("query"),
)
def query_keeps_its_bound(subject: Subject) -> None:
    def keeps(scenario: Scenario, norms: list[float]) -> None:
        query = subject.stage
        harness = Harness(subject, scenario).run()
        norms_G = norms_of(norms, harness.groups)
        q_Q, size = (
            query.vector(harness.state, norms_G, harness.reads),
            size_of(query, len(norms_G)),
        )
        if tuple(q_Q.shape) != (size,) or not bool(q_Q.isfinite().all()):
            raise Broken(
                f"the answer is not a finite vector of length {size}", norms=norms_G, got=q_Q
            )
        if squared(q_Q) > Fraction(query.bound) ** 2 * (1 + SLACK):
            raise Broken(
                "an answer is longer than the declared bound",
                norms=norms_G,
                got=math.sqrt(squared(q_Q)),
                expected=f"at most {query.bound!r}",
            )

    for_all(keeps, scenario=scenarios(steps=(1, 3)), norms=NORMS)


@check(
    "query-bound-is-reached",
    guards="The privacy that a query costs buys something: its bound is no larger than needed.",
    remedy="Declare the largest norm that `vector` reaches; centring often halves it.",
    applies=of_kind("query"),
)
def query_bound_is_reached(subject: Subject) -> None:
    def reached(scenario: Scenario) -> None:
        harness = Harness(subject, scenario).run()
        longest = max(_answer(harness, size) for size in (0.0, *LARGE))
        if longest < subject.stage.bound / 2:
            raise Broken(
                "no answer reaches half of the declared bound",
                got=longest,
                expected=subject.stage.bound,
            )

    for_all(reached, share=0.2, scenario=scenarios(steps=(1, 3)))


def _answer(harness: Harness, size: float) -> float:
    return float(_private(harness, norms_of([size], harness.groups)).norm())
