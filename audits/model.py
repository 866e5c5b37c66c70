"""The audit of a trained run: canaries, one model, and the one-run test over the planned grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from scipy.special import bdtr
from torch import nn

from audits.bounds import OneRunResult, OneRunRow, check_claim, one_run_test
from audits.canaries import CanaryPlan, load_plan
from audits.evidence import EvidenceError, write_private
from audits.picture import draw
from audits.scores import SCORES, scores_of
from audits.verdicts import AuditReport, invalid_audit, judge
from dpcore import Adjacency, RunError
from trainers.data import Data, load_data
from trainers.folder import RunFolder
from trainers.runs import load_run

SCHEMA = "dpigu/audit-model/1"
REPORT = "audit.json"
PICTURE = "audit.png"
UNFAIR = 1e-9
"""Coins less likely than this are taken for no fair coins; an honest plan is refused as often."""

ASSUMPTIONS = (
    "Every coin was fair, independent, and alone decided whether its canary trained.",
    "The model in this folder is what that training gave.",
)


@dataclass(frozen=True, kw_only=True)
class ModelAudit:
    """An audit's report with the test behind it, which is None where the audit is invalid."""

    report: AuditReport
    run: Path
    plan: CanaryPlan | None = None
    test: OneRunResult | None = field(default=None, repr=False)

    @property
    def report_path(self) -> Path:
        """Where the report is."""
        return self.run / "private" / REPORT

    @property
    def picture_path(self) -> Path:
        """Where the picture is, if the audit is valid."""
        return self.run / "private" / PICTURE

    @property
    def best(self) -> OneRunRow | None:
        """The grid's row with the smallest p-value."""
        return min(self.test.rows, key=lambda row: row.p_value) if self.test is not None else None

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`: the report, and what it rests on."""
        test, best, plan = self.test, self.best, self.plan
        return {
            "schema": SCHEMA,
            "run": str(self.run),
            **self.report.to_json(),
            "kind": plan.kind if plan is not None else None,
            "score": plan.score if plan is not None else None,
            "canaries": test.canaries if test is not None else None,
            "guesses": best.guesses if best is not None else None,
            "correct": best.correct if best is not None else None,
            "grid": [asdict(row) for row in test.rows] if test is not None else [],
        }


def audit_model(
    run_folder: Path | str,
    data: Data | None = None,
    *,
    data_dir: Path | None = None,
    claim_epsilon: float | None = None,
    model: nn.Module | None = None,
) -> ModelAudit:
    """Whether a run's canaries contradict its claim; the report goes to its `private/` folder.

    The score, the guess grid and the confidence are the plan's, δ is the run's.

    Args:
        run_folder: a finished run, trained with canaries.
        data: the data as loaded; None loads it by the name in the run's configuration.
        data_dir: the folder to look for it in.
        claim_epsilon: the claim to test; None takes the run's own ε.
        model: the untrained module, where the run used one that has no name to build it by.

    Returns: INVALID AUDIT where the evidence cannot support a verdict.
    Raises: DpiguError for what the user can mend: no run or an unfinished one, missing data, a
        run that claims no ε.
    Source: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run".
    """
    folder = RunFolder.existing(Path(run_folder))
    summary = folder.summary()
    claim = summary["epsilon"] if claim_epsilon is None else claim_epsilon
    check_claim(claim or 0.0, summary["delta"])
    checks: list[tuple[str, str]] = []
    try:
        audit, picture = _audited(folder, summary, claim, data, data_dir, model, checks)
    except EvidenceError as error:
        report = invalid_audit(
            error.problem,
            remedy=error.remedy,
            claim_epsilon=claim,
            delta=summary["delta"],
            checks=(*checks, ("failed", str(error))),
        )
        audit, picture = ModelAudit(report=report, run=folder.path), None
    _write(audit, picture)
    return audit


def _audited(
    folder: RunFolder,
    summary: Mapping[str, Any],
    claim: float | None,
    data: Data | None,
    data_dir: Path | None,
    model: nn.Module | None,
    checks: list[tuple[str, str]],
) -> tuple[ModelAudit, bytes]:
    """The audit and its picture; `checks` grows by every check that passes."""
    plan = load_plan(folder)
    checks.append(("commitment", f"{plan.commitment[:16]}… opens to the plan: nothing was changed"))
    checks.append(
        ("order", "the journal has the commitment before the first step; no more is shown")
    )
    _check_coins(plan)
    checks.append(("coins", f"{len(plan.coins)}, not unlike fair ones"))
    _check_adjacency(summary)
    if claim is None:
        raise RunError(
            f"this run claims no ε: {summary['why_not_private']}",
            where=str(folder.path),
            remedy="Give the claim to test with --claim-epsilon.",
        )
    checks.append(("claim", _whose(claim, summary["epsilon"])))
    if data is None:
        named = folder.configuration()["data"]
        data = load_data(named["name"], data_dir, named["records"], named["classes"])
    plan.check(data)
    checks.append(("fingerprints", "every canary and the whole training split match"))
    scores_m = _scores(plan, data, load_run(folder.path, model).model)
    checks.append(("scores", "every canary has one"))
    test = one_run_test(scores_m, plan.coins, plan.grid, claim, summary["delta"], plan.confidence)
    report = judge(
        claim_epsilon=claim,
        delta=summary["delta"],
        p_value=test.p_value,
        lower_bound=test.lower_bound,
        ceiling=test.ceiling,
        confidence=plan.confidence,
        assumptions=ASSUMPTIONS,
        checks=checks,
    )
    audit = ModelAudit(report=report, run=folder.path, plan=plan, test=test)
    return audit, draw(report.verdict, test, scores_m, plan.coins)


def _check_coins(plan: CanaryPlan) -> None:
    """Refuse coins whose number of heads no fair coins would give."""
    heads, m = sum(plan.coins), len(plan.coins)
    if 2 * bdtr(min(heads, m - heads), m, 0.5) < UNFAIR:
        raise EvidenceError(
            "the plan's coins are no fair coins",
            remedy="Train again with --canaries, which flips them from the system's entropy.",
        )


def _check_adjacency(summary: Mapping[str, Any]) -> None:
    """Refuse a claim about neighbours that these canaries are not."""
    if summary["adjacency"] != Adjacency.ADD_OR_REMOVE_ONE:
        raise EvidenceError(
            f"the claim is about {summary['adjacency']} neighbours, and a canary is added or not",
            remedy="Audit a run under add-or-remove-one adjacency.",
        )


def _whose(claim: float, own: float | None) -> str:
    if claim == own:
        return "the run's own"
    return f"given for this audit; the run's own is {'none' if own is None else f'ε = {own:.6g}'}"


def _scores(plan: CanaryPlan, data: Data, model: nn.Module) -> list[float]:
    """Every canary's score, in the plan's order."""
    labels = data.train_y.new_tensor(plan.labels)
    scores_m = scores_of(SCORES[plan.score], model, data.train_x[list(plan.ids)], labels)
    if bool(torch.isnan(scores_m).any()):
        raise EvidenceError(
            "the model's outputs on the canaries are not numbers",
            remedy="Audit a model whose weights are finite.",
        )
    scores: list[float] = scores_m.tolist()
    return scores


def _write(audit: ModelAudit, picture: bytes | None) -> None:
    """The report and its picture, for their owner only: they are about real members."""
    report = json.dumps(audit.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        write_private(audit.report_path, f"{report}\n".encode())
        if picture is None:
            audit.picture_path.unlink(missing_ok=True)
        else:
            write_private(audit.picture_path, picture)
    except OSError as error:
        raise RunError(
            f"the report cannot be written: {error.strerror}", where=str(audit.report_path)
        ) from error
