"""A campaign: trials in worker processes, resumed where they stopped, judged at any time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dpigu.audits.campaign.judged import Campaign, judged
from dpigu.audits.campaign.target import Target
from dpigu.audits.campaign.work import LOG, Job, open_job
from dpigu.audits.statistics import accounted_curve, check_confidence
from dpigu.audits.verdict import Verdict
from dpigu.audits.workers import Workers, spread
from dpigu.dpcore import DataError
from dpigu.trainers import Data, Recipe, Tensors, calibrate
from dpigu.trainers.calibration import epsilon_of
from dpigu.trainers.progress import Progress

LOOK_EVERY = 10
"""Trials between two looks of a campaign that stops as soon as it contradicts."""
LEAST = 20


def run_campaign(
    recipe: Recipe,
    data: Data,
    target: Target,
    folder: Path | str,
    *,
    trials: int,
    workers: Workers = 1,
    confidence: float = 0.95,
    claim_epsilon: float | None = None,
    until_contradicted: bool = False,
    progress: bool = False,
) -> Campaign:
    """Train `trials` models, each with the target by a fair coin, and test the recipe's claim.

    What is there already is not trained again; more trials may be asked for later, and the answer
    stays valid. The trainings of a campaign spend privacy each by itself: its folder is private.

    Args:
        data: the declared number of records or fewer; one is left out to make room for the target.
        target: as `crafted_target` makes it, or any record and initial model.
        folder: its coins and scores, one a trial.
        workers: processes, one torch thread each, or a cluster.
        claim_epsilon: the claim; None takes the recipe's own.
        until_contradicted: stop at the first look that contradicts, every ten trials.

    Raises: DataError for fewer than 20 trials or records of several tensors; EvidenceError for a
        folder of another campaign; RunError where a worker fails.
    """
    check_confidence(confidence)
    if trials < LEAST:
        raise DataError("too few trials for a verdict", got=trials, expected=f"{LEAST} or more")
    plan = calibrate(recipe.plan, recipe.settings, data.spec.records)
    own_epsilon = recipe.settings.epsilon or epsilon_of(plan, [p.steps for p in plan.phases]).value
    claim = claim_epsilon if claim_epsilon is not None else own_epsilon
    if claim is None:
        raise DataError("this recipe claims no ε", remedy="Give the claim as `claim_epsilon`.")
    own = accounted_curve(plan.event(), plan.adjacency) if claim == own_epsilon else None
    job = open_job(Path(folder), trials, plan, recipe.settings, without_one(data), target)

    def judge_now() -> Campaign:
        scores, coins = job.scores()
        return judged(
            scores,
            coins,
            epsilon=claim,
            delta=plan.delta,
            confidence=confidence,
            own=own,
            checks=(("scores", f"{len(scores)} trials, each of this recipe, data and coin"),),
        )

    _trained(job, workers, progress, judge_now if until_contradicted else None)
    return judge_now()


def without_one(data: Data) -> Data:
    """The data with room for one more record within what is declared."""
    kept = data.spec.records - 1
    return dataclasses.replace(data, train=Tensors(data.train_x[:kept], data.train_y[:kept]))


def _trained(
    job: Job, workers: Workers, progress: bool, judge_now: Callable[[], Campaign] | None
) -> None:
    """Run what is missing; with `judge_now`, stop at the first look that contradicts."""
    missing = job.missing()
    there = len(job.coins) - len(missing)
    work = spread(job.score, missing, workers, job.folder / LOG)
    with Progress(len(job.coins), show=progress and bool(missing)) as bar, closing(work) as done:
        bar.advance(there)
        for count, (trial, score) in enumerate(done, start=there + 1):
            job.keep(trial, score)
            bar.advance(count)
            if judge_now is not None and count % LOOK_EVERY == 0:
                there_are = len(job.scores()[0])  # those before the first that is missing
                if there_are >= LEAST and judge_now().report.verdict is Verdict.CONTRADICTED:
                    return
