"""A campaign: trials in worker processes, resumed where they stopped, judged at any time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dpigu.audits.campaign.gradient_target import GradientTargets
from dpigu.audits.campaign.guesses import guesses_of
from dpigu.audits.campaign.judged import Campaign, combined, judged, p_values_of
from dpigu.audits.campaign.work import LOCK, LOG, AnyTargets, Job, Outcome, open_job
from dpigu.audits.canaries.gradients import check_steps_apart
from dpigu.audits.statistics import accounted_curve, check_confidence
from dpigu.audits.workers import Workers, spread
from dpigu.dpcore import DataError, RunError
from dpigu.trainers import Data, Recipe, Tensors, calibrate
from dpigu.trainers.calibration import epsilon_of
from dpigu.trainers.progress import Progress
from dpigu.trainers.runs.lock import Lock

LEAST, MORE = 20, 1.05
"""The first look of a campaign that stops as soon as it contradicts, and from look to look."""


def run_campaign(
    recipe: Recipe,
    data: Data,
    targets: AnyTargets,
    folder: Path | str,
    *,
    trials: int,
    workers: Workers = 1,
    confidence: float = 0.95,
    claim_epsilon: float | None = None,
    until_contradicted: bool = False,
    progress: bool = False,
) -> Campaign:
    """Train `trials` models, each target in by a fair coin of its own, and test the recipe's claim.

    What is there already is not trained again; more trials may be asked for later, and the answer
    stays valid. A training that fails, or whose scores are not finite, is an outcome like any
    other, with a score that was fixed beforehand. The trainings of a campaign spend privacy each
    by itself: its folder is private.

    Args:
        data: the declared number of records or fewer; as many are left out as there are targets.
        targets: as `crafted_targets` or `gradient_targets` makes them, or any records and initial
            model.
        folder: its coins and scores.
        workers: processes, one torch thread each, or a cluster.
        claim_epsilon: the claim; None takes the recipe's own.
        until_contradicted: stop at the first look that contradicts, each 5% of the trials later.

    Raises: DataError for fewer than 20 trials or records of several tensors; EvidenceError for a
        folder of another campaign; RunError where every training fails, a worker dies, or another
        process is at work in the folder.
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
    if isinstance(targets, GradientTargets):
        check_steps_apart(recipe.plan)
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(Lock(folder / LOCK, folder)):
        kept = without(data, targets.count)
        job = open_job(folder, trials, plan, recipe.settings, kept, targets)
        done = job.done()

        def contradicts() -> bool:
            scores_NK, coins_NK = job.first(done)
            if len(scores_NK) < LEAST:
                return False
            guesses = guesses_of(scores_NK, coins_NK)
            p_values = p_values_of(guesses, epsilon=claim, delta=plan.delta, own=own)
            return combined(p_values) < 1 - confidence

        _trained(job, done, workers, progress, contradicts if until_contradicted else None)
    scores_NK, coins_NK = job.first(done)
    failed = sum(isinstance(done[i], str) for i in range(len(scores_NK)))
    return judged(
        scores_NK,
        coins_NK,
        epsilon=claim,
        delta=plan.delta,
        confidence=confidence,
        own=own,
        checks=(
            ("scores", f"{len(scores_NK)} trials, each of this recipe, data and coins"),
            ("failures", f"{failed} trainings failed; each counts, with the score of even odds"),
        ),
    )


def without(data: Data, count: int) -> Data:
    """The data with room for so many more records within what is declared."""
    kept = data.spec.records - count
    return dataclasses.replace(data, train=Tensors(data.train_x[:kept], data.train_y[:kept]))


def _trained(
    job: Job,
    done: dict[int, Outcome],
    workers: Workers,
    progress: bool,
    contradicts: Callable[[], bool] | None,
) -> None:
    """Run what is missing; with `contradicts`, stop at the first look at which it holds.

    Raises: RunError where 20 trainings or more have failed, and none has not.
    """
    trials, look = len(job.coins_NK), float(LEAST)
    missing = [i for i in range(trials) if i not in done]
    work = spread(job.score, missing, workers, job.folder / LOG)
    with Progress(trials, show=progress and bool(missing)) as bar, closing(work) as found:
        bar.advance(len(done))
        for trial, outcome in found:
            job.keep(trial, outcome)
            done[trial] = outcome
            bar.advance(len(done))
            if len(done) >= LEAST and all(isinstance(o, str) for o in done.values()):
                raise RunError(
                    f"every training failed, the last one with {outcome}",
                    where=str(job.folder),
                    remedy="Mend the recipe, and begin in a new folder.",
                )
            if contradicts is not None and len(done) >= look:
                look = MORE * len(done)
                if contradicts():
                    return
