"""The audit of a trained run: canaries, one model, and two one-run tests over the planned grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.audits.advice import Advice, crafted_gradients, more_trainings
from dpigu.audits.canaries import (
    KINDS,
    CanaryPlan,
    Observations,
    check_coins,
    load_plan,
    read_observations,
)
from dpigu.audits.canaries.gradients import steps_apart
from dpigu.audits.evidence import EvidenceError
from dpigu.audits.membership import Membership
from dpigu.audits.report import PAGE, report_data, write_report
from dpigu.audits.report.audit_report import JSON as REPORT
from dpigu.audits.scores import SCORES, scores_of
from dpigu.audits.statistics import (
    AsClaimed,
    CombinedTest,
    OneRunResult,
    OneRunRow,
    Reals,
    TradeOffCurve,
    accounted_curve,
    check_claim,
    combined_test,
)
from dpigu.audits.verdict import AuditReport, invalid_audit, judge, told_as_numbers
from dpigu.dpcore import Adjacency, RunError
from dpigu.trainers import Data, Run, load_run, recipe_from_file
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.load import load_run_data
from torch import nn

FAIR = "Every coin was fair, independent, and alone decided whether its canary trained."
ASSUMPTIONS = (FAIR, "The model in this folder is what that training gave.")
WHITE_BOX_ASSUMPTIONS = (
    FAIR,
    "The observations in this folder are of what that training released.",
)
STOPPED = (
    "The run was stopped by choice, and not by what its canaries had shown: after a stop by "
    "`dpaudit watch` the error of that watch comes on top."
)


@dataclass(frozen=True, kw_only=True)
class ModelAudit:
    """An audit's report with the tests behind it, which are None where the audit is invalid."""

    report: AuditReport
    run: Path
    plan: CanaryPlan | None = None
    combined: CombinedTest | None = field(default=None, repr=False)
    scores_m: Reals | None = field(default=None, repr=False)
    as_claimed: AsClaimed | None = None
    membership: Membership | None = field(default=None, repr=False)
    reproduce: Sequence[str] = ()
    next_steps: Sequence[str] = ()

    def beside(self, membership: Membership, *, reproduce: Sequence[str] = ()) -> ModelAudit:
        """This audit with estimates beside its verdict, which stays; its report is written again.

        Args:
            reproduce: lines that give this report again; by default those of the audit and one
                for the estimates, in Python.

        Raises: RunError where it cannot be written.
        """
        estimated = f"dpigu.estimate_membership({str(self.run)!r}, {membership.shadows})"
        again = reproduce or (*self.reproduce, estimated)
        whole = replace(self, membership=membership, reproduce=again)
        write_report(self.run / "private", whole.to_json())
        return whole

    @property
    def report_path(self) -> Path:
        """Where the report is, as JSON."""
        return self.run / "private" / REPORT

    @property
    def page_path(self) -> Path:
        """Where the report is, as a page for a browser."""
        return self.run / "private" / PAGE

    @property
    def test(self) -> OneRunResult | None:
        """The test of the claim; its bound and ceiling hold at the report's confidence."""
        return self.combined.one_run if self.combined is not None else None

    @property
    def best(self) -> OneRunRow | None:
        """The grid's row that the bound comes from."""
        return self.combined.best if self.combined is not None else None

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`: the report, and what it rests on."""
        plan = self.plan
        facts: list[tuple[str, str]] = []
        if plan is not None:
            planted = f"{len(plan.coins)} {KINDS[plan.kind].what}, {sum(plan.coins)} of them in"
            facts += [("canaries", planted), ("score", plan.score)]
        data = report_data(
            self.report,
            command="model",
            subject=str(self.run),
            facts=facts,
            combined=self.combined,
            scores=self.scores_m,
            members=plan.coins if plan is not None else None,
            membership=self.membership.to_json() if self.membership is not None else None,
            as_claimed=self.as_claimed,
            reproduce=self.reproduce,
            next_steps=self.next_steps,
        )
        return data | {"kind": plan and plan.kind, "score": plan and plan.score}


def audit_model(
    run_folder: Path | str,
    data: Data | None = None,
    *,
    data_dir: Path | None = None,
    claim_epsilon: float | None = None,
    model: nn.Module | None = None,
    trust_code: bool = False,
    reproduce: Sequence[str] = (),
    steps_of: Callable[[Advice], Sequence[str]] = lambda advice: (),
) -> ModelAudit:
    """Whether a run's canaries contradict its claim; the report goes to its `private/` folder.

    The score, the guess grid and the confidence are the plan's, δ is the run's.

    Args:
        run_folder: a finished run, trained with canaries.
        data: the data as loaded; None loads it by the name in the run's configuration.
        data_dir: the folder to look for it in.
        claim_epsilon: the claim to test; None takes the run's own ε.
        model: the untrained module, where the run used one that has no name to build it by.
        trust_code: import a model or data that the folder names as `module:factory`.
        reproduce: lines that give the report again; by default this call, in Python.
        steps_of: command lines that follow an advice, for the report of a design without power.

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
    again = reproduce or (_call(folder.path, data_dir, claim_epsilon),)
    try:
        plan = load_plan(folder)
        _check_plan(plan, summary, checks)
        _check_claimed(folder, summary, claim, checks)
        trained = partial(load_run, folder.path, model, trust_code=trust_code)
        seen = _seen(folder, plan, checks) if plan.white_box else None
        if seen is not None:
            scores_m = seen.scores()
        else:
            scores_m = _scores(folder, plan, data, data_dir, trust_code, trained, checks)
        _check_scores(scores_m, checks)
        combined = combined_test(
            scores_m,
            plan.coins,
            plan.grid,
            epsilon=claim,
            delta=summary["delta"],
            confidence=plan.confidence,
            own=_own_curve(folder, checks) if claim == summary["epsilon"] else None,
            observed=seen.p_values() if seen is not None else None,
            shares=plan.shares,
        )
        as_claimed = None
        if seen is not None:
            as_claimed = seen.as_claimed(summary["delta"], plan.confidence)
        report = judge(
            claim_epsilon=claim,
            delta=summary["delta"],
            p_value=combined.p_value,
            lower_bound=combined.one_run.lower_bound,
            ceiling=combined.one_run.ceiling,
            confidence=plan.confidence,
            against=combined.against,
            beyond=told_as_numbers(as_claimed) if as_claimed and combined.observed else "",
            assumptions=_assumed(plan, summary),
            checks=checks,
            advise=partial(_advice, folder, claim, plan.confidence, trained),
        )
        audit = ModelAudit(
            report=report,
            run=folder.path,
            plan=plan,
            combined=combined,
            scores_m=scores_m,
            as_claimed=as_claimed,
            reproduce=again,
            next_steps=steps_of(report.advice) if report.advice else (),
        )
    except EvidenceError as error:
        report = invalid_audit(
            error.problem,
            remedy=error.remedy,
            claim_epsilon=claim,
            delta=summary["delta"],
            checks=(*checks, ("failed", str(error))),
        )
        audit = ModelAudit(report=report, run=folder.path, reproduce=again)
    write_report(folder.private, audit.to_json())
    return audit


def _advice(
    folder: RunFolder, claim: float, confidence: float, trained: Callable[[], Run]
) -> Advice:
    """What would have power: crafted gradients where the claim is the run's own and they can
    stand in its steps, else many trainings."""
    summary, recipe = folder.summary(), recipe_from_file(folder.public / "config.toml")
    if claim == summary["epsilon"] and steps_apart(recipe.plan):
        parameters = sum(p.numel() for p in trained().model.parameters() if p.requires_grad)
        found = crafted_gradients(summary["steps"], summary["records"], parameters, confidence)
        if found is not None:
            return found
    return more_trainings(claim, summary["delta"], confidence)


def _assumed(plan: CanaryPlan, summary: Mapping[str, Any]) -> tuple[str, ...]:
    """What the verdict rests on; of a run that was stopped, that its canaries did not stop it."""
    if not plan.white_box:
        return ASSUMPTIONS
    return WHITE_BOX_ASSUMPTIONS + (() if summary["epsilon_is"] == "claim" else (STOPPED,))


def _check_plan(
    plan: CanaryPlan, summary: Mapping[str, Any], checks: list[tuple[str, str]]
) -> None:
    """The plan was committed to before training, its coins are coins, its neighbours the claim's.

    `checks` grows by every check that passes.
    """
    checks.append(("commitment", f"{plan.commitment[:16]}… opens to the plan: nothing was changed"))
    checks.append(
        ("order", "the journal has the commitment before the first step; no more is shown")
    )
    check_coins(plan.coins)
    checks.append(("coins", f"{len(plan.coins)}, not unlike fair ones"))
    _check_adjacency(summary)


def _check_claimed(
    folder: RunFolder,
    summary: Mapping[str, Any],
    claim: float | None,
    checks: list[tuple[str, str]],
) -> None:
    """There is a claim, and whose it is."""
    if claim is None:
        raise RunError(
            f"this run claims no ε: {summary['why_not_private']}",
            where=str(folder.path),
            remedy="Give the claim to test as `claim_epsilon`.",
        )
    checks.append(("claim", _whose(claim, summary["epsilon"])))


def _own_curve(folder: RunFolder, checks: list[tuple[str, str]]) -> TradeOffCurve | None:
    """The trade-off curve of what the ledger says ran, by the accountant's event."""
    try:
        ledger = folder.ledger()
    except RunError as error:
        raise EvidenceError(f"the ledger supports no verdict: {error}") from error
    said = folder.summary()["steps"]
    if ledger.steps != said:
        raise EvidenceError(
            "the ledger and the summary disagree on how many steps ran",
            where=str(folder.public),
            got=f"{ledger.steps} and {said}",
        )
    checks.append(("ledger", f"{said} steps charged, as the summary says"))
    return accounted_curve(ledger.event, ledger.head.adjacency)


def _check_adjacency(summary: Mapping[str, Any]) -> None:
    """Refuse a claim about neighbours that these canaries are not."""
    if summary["adjacency"] != Adjacency.ADD_OR_REMOVE_ONE:
        raise EvidenceError(
            f"the claim is about {summary['adjacency']} neighbours, and a canary is added or not",
            remedy="Audit a run under add-or-remove-one adjacency.",
        )


def _whose(claim: float, own: float | None) -> str:
    if claim == own:
        return f"the run's own, exactly ε = {own!r}"
    return f"given for this audit; the run's own is {'none' if own is None else f'ε = {own!r}'}"


def _seen(folder: RunFolder, plan: CanaryPlan, checks: list[tuple[str, str]]) -> Observations:
    """What the releases said of crafted gradients."""
    planned = recipe_from_file(folder.public / "config.toml").plan.steps
    seen = read_observations(len(plan.coins), folder.private, planned)
    charged = folder.summary()["steps"]
    checks.append(("observations", f"{len(seen.o_Tm)} steps of {charged} charged"))
    return seen


def _scores(
    folder: RunFolder,
    plan: CanaryPlan,
    data: Data | None,
    data_dir: Path | None,
    trust_code: bool,
    trained: Callable[[], Run],
    checks: list[tuple[str, str]],
) -> Reals:
    """Every canary's score by the model, in the plan's order."""
    if data is None:
        data = load_run_data(folder, data_dir, trust_code=trust_code)
    plan.check(data)
    checks.append(("fingerprints", "every canary and the whole training split match"))
    x_m, y_m = plan.records(data)
    scores_m: Reals = scores_of(SCORES[plan.score], trained().model, x_m, y_m).numpy()
    return scores_m


def _check_scores(scores_m: Reals, checks: list[tuple[str, str]]) -> None:
    if np.isnan(scores_m).any():
        raise EvidenceError(
            "the model's outputs on the canaries are not numbers",
            remedy="Audit a model whose weights are finite.",
        )
    checks.append(("scores", "every canary has one"))


def _call(run: Path, data_dir: Path | None, claim: float | None) -> str:
    """The call that gives this report again."""
    arguments = [repr(str(run))]
    arguments += [f"data_dir={str(data_dir)!r}"] if data_dir is not None else []
    arguments += [f"claim_epsilon={claim!r}"] if claim is not None else []
    return f"dpigu.audit_model({', '.join(arguments)})"
