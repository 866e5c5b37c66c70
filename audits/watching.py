"""A run watched while it trains: an e-process of its crafted gradients, valid after any step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpigu.audits.canaries import load_plan, read_observations
from dpigu.audits.evidence import EvidenceError
from dpigu.audits.verdict import Judged, Verdict
from dpigu.audits.wording import one_in, percent
from dpigu.dpcore import RunError
from dpigu.trainers import Callback, Session, Step, recipe_from_file
from dpigu.trainers.runs import RunFolder

NEXT = "Its error is its own, beside that of `dpaudit model`."


@dataclass(frozen=True, kw_only=True)
class Watched(Judged):
    """What the releases so far say of the noise and the clipping that a run claims.

    Args:
        steps: observed, of `planned`.
        p_value: 1/E at this look; valid for as many looks as one likes.
        confidence: of the verdict, over all looks together.
    """

    steps: int
    planned: int
    p_value: float | None
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            **self.told(),
            "steps": self.steps,
            "planned": self.planned,
            "p_value": self.p_value,
            "confidence": self.confidence,
        }


def watch_run(run_folder: Path | str) -> Watched:
    """Look at a run that trains with canaries of the kind gradient, or has ended.

    Tests the claimed noise and the claimed clipping bound by `Observations.log_e`; it reads
    releases and which canaries joined, and no record. It may be called after any step.

    Returns: INVALID AUDIT where the run has no such canaries or they are damaged.
    Raises: RunError where there is no run.
    """
    folder = RunFolder.existing(Path(run_folder))
    steps, planned, p_value, confidence = 0, 0, None, 0.95
    try:
        plan = load_plan(folder)
        if not plan.white_box:
            raise EvidenceError("only crafted gradients show a run while it trains")
        confidence = plan.confidence
        planned = recipe_from_file(folder.public / "config.toml").plan.steps
        seen = read_observations(len(plan.coins), folder.private, planned)
        steps, p_value = len(seen.o_Tm), math.exp(-max(0.0, seen.log_e()))
        verdict, sentence = _said(steps, planned, p_value, confidence)
    except EvidenceError as error:
        verdict = Verdict.INVALID_AUDIT
        sentence = f"This audit cannot support a verdict: {error.problem}. {error.remedy}".strip()
    return Watched(
        verdict=verdict,
        sentence=sentence,
        steps=steps,
        planned=planned,
        p_value=p_value,
        confidence=confidence,
    )


def _said(steps: int, planned: int, p: float, confidence: float) -> tuple[Verdict, str]:
    after = f"After {steps} of {planned} steps"
    if p <= 1 - confidence:
        return Verdict.CONTRADICTED, (
            f"{after} the releases contradict the noise or the clipping bound that the run claims: "
            f"were they true, evidence this strong would ever turn up in at most one of "
            f"{one_in(p)} runs, however often one looks. {NEXT}"
        )
    return Verdict.NOT_CONTRADICTED, (
        f"{after} the releases do not contradict the noise and the clipping bound that the run "
        f"claims, at {percent(confidence)} confidence over all looks. {NEXT}"
    )


class StopWhenContradicted(Callback):
    """Stops a run as soon as its crafted gradients contradict what it claims.

    Args:
        every: steps between two looks; any number is valid.

    Errors: RunError for a run without a folder.
    """

    def __init__(self, every: int = 10) -> None:
        self._every = every

    def on_step(self, session: Session, step: Step) -> None:
        if step.number % self._every:
            return
        if session.folder is None:
            raise RunError("a run without a folder keeps no observations to watch")
        if watch_run(session.folder).verdict is Verdict.CONTRADICTED:
            session.stop()
