"""Audits of scores and membership from anywhere; a verdict only where coins decided who was in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.audits.advice import Advice
from dpigu.audits.canaries import check_coins
from dpigu.audits.evidence import EvidenceError
from dpigu.audits.external.made_up import beyond_baseline
from dpigu.audits.external.planted import planted_scores
from dpigu.audits.external.signals import exposure
from dpigu.audits.report import report_data
from dpigu.audits.statistics import CombinedTest, check_claim, combined_test, guess_grid
from dpigu.audits.verdict import AuditReport, invalid_audit, judge
from dpigu.dpcore import DataError
from numpy.typing import ArrayLike

ASSUMPTIONS = (
    "As you said: a fair, independent coin for each record alone decided whether it trained.",
    "Every coin that was flipped has its row, and no score was made by looking at a coin.",
)
PLANTED = (
    "The model was trained on the file that was written here, as it is, and on nothing else of it.",
    "No score was made by looking at which canaries were in that file.",
)
NO_COINS = (
    "no coins decided who was in, so members and non-members may differ in more than membership"
)


@dataclass(frozen=True, kw_only=True)
class ScoresAudit:
    """The verdict, and the report as plain data."""

    report: AuditReport
    data: Mapping[str, Any]


def audit_scores(
    scores: ArrayLike,
    members: ArrayLike,
    *,
    coins: bool,
    claim_epsilon: float,
    delta: float,
    confidence: float = 0.95,
    baseline: ArrayLike | None = None,
    command: str = "scores",
    subject: str = "scores",
    facts: Sequence[tuple[str, str]] = (),
    assumptions: Sequence[str] = ASSUMPTIONS,
    reproduce: Sequence[str] = (),
    steps_of: Callable[[Advice], Sequence[str]] = lambda advice: (),
) -> ScoresAudit:
    """Whether scores contradict a claim; AUC and TPR beside it, coins or not.

    Args:
        scores: one a record, higher for "member"; members: 1 where it was in.
        coins: whether independent fair coins decided who was in. Without them no verdict.
        claim_epsilon, delta: the claim. confidence: of the verdict.
        baseline: scores by a classifier that never saw the model, where the non-members were made
            up and no coins were tossed; what the model tells beyond it is an estimate.
        command, subject, facts, reproduce: what the report says of where they are from.
        assumptions: what a verdict rests on.
        steps_of: command lines that follow an advice, for the report of a design without power.

    The tests and the grid are those of `dpaudit model`; the grid follows from the number of
    records alone.
    Raises: DataError where scores and members do not pair up, are no numbers of a side, or come
        with coins and a baseline.
    """
    check_claim(claim_epsilon, delta)
    s_n, in_n = np.asarray(scores, dtype=np.float64), np.asarray(members)
    if s_n.ndim != 1 or s_n.shape != in_n.shape:
        raise DataError("scores and members must pair up", got=s_n.shape, expected=in_n.shape)
    if baseline is not None:
        if coins:
            raise DataError("a baseline is for made-up records; coins need none", where="baseline")
        told = beyond_baseline(s_n, baseline, in_n, delta=delta, confidence=confidence)
        facts = (*facts, *told.facts())
    checks: list[tuple[str, str]] = []
    combined: CombinedTest | None = None
    try:
        if np.isnan(s_n).any():
            s_n = np.zeros(0)
            raise EvidenceError("some scores are not numbers", remedy="Score every record.")
        checks.append(("scores", f"{len(s_n)}, all of them numbers"))
        if not coins:
            raise EvidenceError(NO_COINS, remedy="What they show is an estimate, given beside.")
        check_coins(in_n.tolist())
        checks.append(("coins", f"{len(in_n)}, not unlike fair ones"))
        combined = combined_test(
            s_n,
            in_n,
            guess_grid(len(s_n)),
            epsilon=claim_epsilon,
            delta=delta,
            confidence=confidence,
        )
        report = judge(
            claim_epsilon=claim_epsilon,
            delta=delta,
            p_value=combined.p_value,
            lower_bound=combined.one_run.lower_bound,
            ceiling=combined.one_run.ceiling,
            confidence=confidence,
            assumptions=assumptions,
            checks=checks,
        )
    except EvidenceError as error:
        report = invalid_audit(
            error.problem,
            remedy=error.remedy,
            claim_epsilon=claim_epsilon,
            delta=delta,
            confidence=confidence,
            checks=(*checks, ("failed", error.problem)),
        )
    sides = f"{int(in_n.sum())} members, {int((in_n == 0).sum())} non-members"
    data = report_data(
        report,
        command=command,
        subject=subject,
        facts=(*facts, ("records", sides)),
        combined=combined,
        scores=s_n if s_n.size else None,
        members=in_n if s_n.size else None,
        reproduce=reproduce,
        next_steps=steps_of(report.advice) if report.advice else (),
    )
    return ScoresAudit(report=report, data=data)


def audit_planted(
    folder: Path,
    file: Path,
    *,
    claim_epsilon: float,
    delta: float,
    confidence: float = 0.95,
    signal: str | None = None,
    reproduce: Sequence[str] = (),
    steps_of: Callable[[Advice], Sequence[str]] = lambda advice: (),
) -> ScoresAudit:
    """Whether the scores of a folder's canaries contradict a claim, by the folder's own coins.

    Args:
        folder: as `plant` made it. file: scores by canary, as `planted_scores` reads them.
        steps_of: as `audit_scores` has it.

    Returns: INVALID AUDIT where coins were changed or scores do not fit the canaries.
    Raises: DataError for a file that cannot be read.
    """
    check_claim(claim_epsilon, delta)
    try:
        found = planted_scores(folder, file, signal)
    except EvidenceError as error:
        report = invalid_audit(
            error.problem,
            remedy=error.remedy,
            claim_epsilon=claim_epsilon,
            delta=delta,
            confidence=confidence,
            checks=(("failed", str(error)),),
        )
        data = report_data(report, command="planted", subject=str(file), reproduce=reproduce)
        return ScoresAudit(report=report, data=data)
    inside = found.members == 1
    facts = [("signal", found.what)]
    if inside.any() and not inside.all():
        bits = exposure(found.scores[inside], found.scores[~inside])
        most = np.log2((~inside).sum() + 1)
        told = f"median {np.median(bits):.2f} bits, largest {bits.max():.2f}, of {most:.2f}"
        facts.append(("exposure of those in", told))
    return audit_scores(
        found.scores,
        found.members,
        coins=True,
        claim_epsilon=claim_epsilon,
        delta=delta,
        confidence=confidence,
        command="planted",
        subject=str(file),
        facts=facts,
        assumptions=PLANTED,
        reproduce=reproduce,
        steps_of=steps_of,
    )
