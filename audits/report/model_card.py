"""A section for a model card: the claim, the audit, its design and what it rests on; to publish.

Numbers of an audit stand there only where made-up canaries were judged: what was computed from
records of the data, without noise, stays in the run's private folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpigu.accountants.base import rounded_up, stated
from dpigu.audits.canaries import KINDS
from dpigu.audits.evidence import read_evidence
from dpigu.audits.report.audit_report import JSON
from dpigu.audits.wording import down, p_text, percent, up
from dpigu.trainers.runs import RunFolder

TITLE = "Privacy"
NEVER = "An audit looks for evidence against a claim. It never proves one."


def card(run_folder: Path | str) -> str:
    """Markdown for the card of a finished run, with Hugging Face's metadata in front.

    The audit is that of the run's `private/report.json`, if `dpaudit model` wrote one.
    Raises: RunError where there is no finished run.
    """
    folder = RunFolder.existing(Path(run_folder))
    summary = folder.summary()
    path = folder.private / JSON
    report = read_evidence(path) if path.is_file() else None
    lines = [*_metadata(summary, report), f"## {TITLE}", "", _claim(summary), ""]
    if report is not None:
        lines += [*_audit(report), ""]
    else:
        lines += ["No audit of this run is reported.", ""]
    return "\n".join(lines)


def _metadata(summary: Mapping[str, Any], report: Mapping[str, Any] | None) -> list[str]:
    """YAML that a model's page on the Hugging Face hub reads: tags, and the claim as data."""
    lines = ["---", "tags:"]
    if not summary["private"]:
        return [*lines, "- not-differentially-private", "---", ""]
    lines += [
        "- differential-privacy",
        "differential_privacy:",
        f"  epsilon: {rounded_up(summary['epsilon'])}",
        f"  delta: {summary['delta']:g}",
        f"  adjacency: {summary['adjacency']}",
        f"  unit: {_text(_unit(summary))}",
        f"  accountant: {summary['accountant']}",
    ]
    if report is not None:
        lines += ["  audit:", f"    verdict: {_text(report['verdict'])}"]
        lines += [f"    confidence: {report['confidence']:g}"]
        if _public(report):
            lines += [f"    epsilon_at_least: {down(report['lower_bound'])}"]
            lines += [f"    ceiling: {down(report['ceiling'])}"]
    return [*lines, "---", ""]


def _text(value: str) -> str:
    """A YAML scalar that is a string, whatever it holds."""
    return json.dumps(value, ensure_ascii=False)


def _unit(summary: Mapping[str, Any]) -> str:
    return "one record" if summary["unit"] is None else "one unit"


def _claim(summary: Mapping[str, Any]) -> str:
    if not summary["private"]:
        return f"This model makes no claim of differential privacy: {summary['why_not_private']}."
    return (
        f"**Claim.** Training was differentially private with ε = {stated(summary['epsilon'])} "
        f"at δ = {summary['delta']:g}, for adding or removing {_unit(summary)} of "
        f"{summary['records']:,} declared ({summary['adjacency']}), by the "
        f"{summary['accountant'].upper()} accountant. Choices made by looking at the data before "
        "the run are not charged."
    )


def _public(report: Mapping[str, Any]) -> bool:
    """Whether the audit's numbers follow from releases and made-up canaries alone."""
    kind = str(report.get("kind"))
    return report["p_value"] is not None and kind in KINDS and not KINDS[kind].from_data


def _audit(report: Mapping[str, Any]) -> list[str]:
    """Verdict, design and assumptions, each a paragraph or a list."""
    verdict = f"**Audit.** {report['verdict']}"
    if report["p_value"] is None:
        return [f"{verdict}: the evidence could support no verdict. {NEVER}"]
    verdict += f", of ε = {stated(report['claim_epsilon'])} at δ = {report['delta']:g}"
    if _public(report):
        verdict += (
            f"; p = {p_text(report['p_value'])} at the claim. At "
            f"{percent(report['confidence'])} confidence the guesses show ε ≥ "
            f"{down(report['lower_bound'])}, and could have shown {down(report['ceiling'])} at most"
        )
        if (found := report["as_claimed"]) is not None:
            verdict += (
                f"; the releases as numbers show noise below {up(found['noise'])} of the claimed "
                f"and a record's reach above {down(found['reach'])} of the clipping bound"
            )
            if found["epsilon"] is not None:
                verdict += f", which is ε ≥ {down(found['epsilon'])} in a mechanism of its form"
    else:
        verdict += "; its numbers were computed from records of the data, and are not published"
    if report["powerless"]:
        verdict += ". The design had hardly any power against this claim"
    what = KINDS[report["kind"]].what if report.get("kind") in KINDS else "canaries"
    tests = "; ".join(f"{t['name']} ({t['share']:.0%} of the error)" for t in report["tests"])
    return [
        f"{verdict}. {NEVER}",
        "",
        f"**Design.** {report['canaries']} {what}, each in training by a fair coin that was "
        f"committed to before the first step. Tests that could decide, at "
        f"{percent(report['confidence'])} confidence together: {tests}.",
        "",
        "**Assumed.**",
        "",
        *(f"- {line}" for line in report["assumptions"]),
    ]
