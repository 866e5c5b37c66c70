"""What would have power against a claim, where an audit's design had none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from dpigu.accountants.base import stated
from dpigu.audits.statistics import (
    ENOUGH,
    SHARES,
    clopper_pearson_epsilon,
    guess_grid,
    one_run_ceiling,
    spread_power,
)
from dpigu.audits.statistics.anytime import trials_for_ceiling
from dpigu.audits.statistics.black_box import plan_black_box
from dpigu.audits.wording import down

HARDLY = 1.25
"""An audit whose ceiling is below so many times the claim has no power: perfect guesses alone,
or nearly perfect ones, could have contradicted."""
CANARIES = tuple(round(100 * 10 ** (k / 4)) for k in range(13))
"""Numbers of canaries among which one that would have power is looked for."""
GRADIENTS = (50, 100, 200, 500, 1000, 2000)
LESS = 0.85
"""Of the claimed noise: what a design with power should see."""
APART = 10
"""Coordinates a crafted gradient should own, so that the data's share of them is small."""
SURE_SHARE = 0.5
"""Of the error: what a campaign leaves to its sure guesses."""
MOST = 200_000
"""Models that somebody could train; a design that asks for more is none."""

Design: TypeAlias = Literal["crafted gradients", "canaries", "trainings", "models", "mechanism"]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A design that would have power in place of one that had none.

    Args:
        design: what is planted or trained; "trainings" are a campaign's, "models" anybody's.
        count: of them.
        what: to do, as an order.
        why: sentences on what it would show, and at which price.
    """

    design: Design
    count: int
    what: str
    why: str


def needed_for_power(claim: float) -> float:
    """The ceiling that has power: 1.25 times the claim as it is stated."""
    return HARDLY * float(stated(claim))


def crafted_gradients(
    steps: int, records: int, parameters: int, confidence: float
) -> Advice | None:
    """The fewest crafted gradients in one run that see 15% less noise; None where none would.

    Args:
        steps: of the run. records: that it declares. parameters: of its model.
    """
    for count in GRADIENTS:
        power = spread_power(LESS, count * steps, confidence)
        if power >= ENOUGH and 2 * count <= records and APART * count <= parameters:
            return Advice(
                design="crafted gradients",
                count=count,
                what=f"train again with {count} crafted gradients as canaries, and audit that run",
                why=(
                    "They are seen in every step and not in the final model alone: of a run with "
                    f"{1 - LESS:.0%} less noise than claimed, {down(100 * min(power, 0.999))}% of "
                    "audits would find it, if the data add little noise of their own. "
                    "Training again spends privacy again."
                ),
            )
    return None


def limit_of_canaries(delta: float, confidence: float) -> float:
    """The most that guesses in one run can show, with up to 100,000 canaries."""
    return max(_ceiling(canaries, delta, confidence) for canaries in CANARIES)


def more_canaries(claim: float, delta: float, confidence: float) -> Advice:
    """So many canaries in one model, or, where no number would do, so many models."""
    wanted = needed_for_power(claim)
    for count in CANARIES:
        if _ceiling(count, delta, confidence) >= wanted:
            plan = plan_black_box(
                epsilon=claim, delta=delta, confidence=confidence, canaries=(count,)
            )
            assert plan[0].easiest is not None  # the ceiling passes the claim
            guesses, right = plan[0].easiest
            return Advice(
                design="canaries",
                count=count,
                what=f"plant {count:,} canaries or more, and train and audit with those",
                why=(
                    f"With {count:,} the claim is contradicted if {right:,} of the {guesses:,} "
                    "surest guesses are right."
                ),
            )
    limit = down(limit_of_canaries(delta, confidence))
    count = 100
    while (shown := clopper_pearson_epsilon(0, count, 0, count, delta, confidence)) < wanted:
        count += max(100, count // 10)
        if 2 * count > MOST:
            return mechanism()
    return Advice(
        design="models",
        count=2 * count,
        what=(
            f"train {2 * count:,} models, half of them with one crafted record and half without, "
            "guess for each which it was, and count the errors"
        ),
        why=(
            "No number of canaries in one model would have power: guesses on up to 100,000 of "
            f"them show ε = {limit} at most, and {stated(wanted)} is needed. With no error those "
            f"models would show {down(shown)}. Whoever has the training code can audit its "
            "mechanism by itself, without any model."
        ),
    )


def more_trainings(claim: float, delta: float, confidence: float, targets: int = 1) -> Advice:
    """So many trainings of one recipe, each with this number of targets in or out."""
    wanted, level = needed_for_power(claim), SURE_SHARE * (1 - confidence)
    count = trials_for_ceiling(targets, wanted, delta, level)
    if count is None or count > MOST:
        return mechanism()
    return Advice(
        design="trainings",
        count=count,
        what=f"train the recipe {count:,} times, with crafted targets in or out by coins",
        why=(
            f"With every target told rightly they would show ε = {stated(wanted)}, a quarter "
            f"above the claim of {stated(claim)}. Each training spends privacy of its own."
        ),
    )


def mechanism() -> Advice:
    """What is left against a claim that no models within reach could contradict."""
    return Advice(
        design="mechanism",
        count=1,
        what="audit the mechanism by itself, which takes the training code and no model",
        why=(
            "So much may leak under this claim that guesses about trained models cannot pass it, "
            "however many canaries or models there are."
        ),
    )


@cache
def _ceiling(canaries: int, delta: float, confidence: float) -> float:
    level = (1 - confidence) * SHARES["one-run"] / len(guess_grid(canaries))
    return one_run_ceiling(canaries, canaries, delta, 1 - level)
