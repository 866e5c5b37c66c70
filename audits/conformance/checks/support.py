"""Checks of scorers, schedulers and points: what is public before a step looks at a record."""

from __future__ import annotations

from itertools import pairwise

import torch
from dpigu.audits.conformance.check import Broken, Subject, check, for_all, of_kind
from dpigu.audits.conformance.harness import Harness, each_step
from dpigu.audits.conformance.scenario import WIDE, Scenario, scenarios
from dpigu.dpcore import Clock
from torch import Tensor

LONG = 24


@check(
    "score-fits",
    guards="Every coordinate can be ranked: it has one finite score, whatever was released.",
    remedy="Return a floating vector of length D from `score`, with no NaN before the first step.",
    applies=of_kind("scorer"),
)
def score_fits(subject: Subject) -> None:
    def fits(scenario: Scenario) -> None:
        for harness in each_step(subject, scenario):
            score_D = subject.stage.score(harness.state)
            size = scenario.space.size
            if tuple(score_D.shape) != (size,) or not score_D.is_floating_point():
                raise Broken(
                    "there is not one score for each coordinate",
                    after=harness.done,
                    got=f"{tuple(score_D.shape)}, {score_D.dtype}",
                    expected=f"({size},)",
                )
            if not bool(score_D.isfinite().all()):
                raise Broken("a score is not finite", after=harness.done, got=score_D)

    for_all(fits, share=0.5, scenario=scenarios())


@check(
    "support-fits",
    guards="Noise is drawn on the support: it is one boolean for each coordinate, never empty.",
    remedy="Return a boolean vector of length D with at least one True from `support`.",
    applies=of_kind("scheduler"),
)
def support_fits(subject: Subject) -> None:
    def fits(scenario: Scenario) -> None:
        for harness in each_step(subject, scenario):
            for step in range(scenario.steps):
                support_D = subject.stage.support(harness.state, Clock(step, scenario.steps))
                layout = (tuple(support_D.shape), support_D.dtype)
                if layout != ((scenario.space.size,), torch.bool):
                    raise Broken(
                        "the support is not one boolean for each coordinate",
                        at=step,
                        got=layout,
                        expected=((scenario.space.size,), torch.bool),
                    )
                if not bool(support_D.any()):
                    raise Broken("the support is empty", at=step)

    for_all(fits, share=0.5, scenario=scenarios())


@check(
    "monotone-as-declared",
    guards="A scheduler that declares `monotone` never freezes a coordinate again, as optimizers "
    "and readers of the plan may assume.",
    remedy="Declare monotone = False, or let the support only grow.",
    applies=of_kind("scheduler"),
)
def monotone_as_declared(subject: Subject) -> None:
    def grows(scenario: Scenario) -> None:
        if not subject.stage.monotone:
            return
        supports = _supports(subject, scenario)
        for step, (sooner, later) in enumerate(pairwise(supports)):
            if bool((sooner & ~later).any()):
                raise Broken(
                    "it is declared monotone, and a coordinate is frozen again",
                    coordinate=int((sooner & ~later).nonzero()[0]),
                    after=step + 1,
                )

    for_all(grows, share=0.5, scenario=scenarios(steps=(2, 3, LONG)))


@check(
    "live-as-declared",
    guards="A schedule that is described as changing the support does change it over a phase.",
    remedy="Declare live = False if the support stays, or make it follow the clock.",
    applies=of_kind("scheduler"),
)
def live_as_declared(subject: Subject) -> None:
    def live(scenario: Scenario) -> None:
        supports = _supports(subject, scenario)
        changes = any(not torch.equal(support_D, supports[0]) for support_D in supports)
        if changes != subject.stage.live:
            raise Broken(
                f"it is declared {'live' if subject.stage.live else 'not live'}, and its support "
                f"{'changes' if changes else 'never changes'} over {LONG} steps"
            )

    for_all(live, share=0.08, scenario=scenarios((WIDE,), steps=(LONG,)))


def _supports(subject: Subject, scenario: Scenario) -> list[Tensor]:
    """The support at every step of a phase."""
    harness = Harness(subject, scenario)
    return [harness.step().support_D for _ in range(scenario.steps)]


@check(
    "point-fits",
    guards="The gradient is taken at weights: as many as the model has, and finite.",
    remedy="Return a vector like `weights_D` from `at`, in its dtype.",
    applies=of_kind("point"),
)
def point_fits(subject: Subject) -> None:
    def fits(scenario: Scenario) -> None:
        for harness in each_step(subject, scenario):
            weights_D = scenario.rows("weights", size=scenario.space.size)[0]
            at_D = subject.stage.at(harness.state, weights_D, _half(scenario))
            if at_D.shape != weights_D.shape or at_D.dtype != weights_D.dtype:
                raise Broken(
                    "the point is not a vector like the weights",
                    got=f"{tuple(at_D.shape)}, {at_D.dtype}",
                    expected=f"{tuple(weights_D.shape)}, {weights_D.dtype}",
                )
            if not bool(at_D.isfinite().all()):
                raise Broken("the point is not finite", weights=weights_D, got=at_D)

    for_all(fits, share=0.5, scenario=scenarios(steps=(1, 3)))


def _half(scenario: Scenario) -> Tensor:
    return torch.arange(scenario.space.size) % 2 == 0
