"""An audit's report as plain data, and its two files: report.json and report.html.

The schema is documented in docs/report-schema.md; the page is drawn from the data alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.accountants.base import stated
from dpigu.audits.advice import limit_of_canaries
from dpigu.audits.evidence import write_private
from dpigu.audits.report.page import page
from dpigu.audits.statistics import (
    CLAIMED,
    OWN,
    AsClaimed,
    CombinedTest,
    Reals,
    TradeOffCurve,
    approximate_dp_tradeoff,
    auc,
    roc_curve,
    tpr_at,
)
from dpigu.audits.verdict import AuditReport
from dpigu.dpcore import RunError
from numpy.typing import ArrayLike, NDArray

SCHEMA = "dpigu/audit-report/1"
JSON = "report.json"
PAGE = "report.html"
SMALL_FPRS = (0.001, 0.01)
ESTIMATE = "Estimates: they decide nothing. Their intervals assume independent records."
_ALPHAS = np.unique(np.concatenate([np.geomspace(1e-3, 1, 40), np.linspace(0, 1, 41)]))


def report_data(
    report: AuditReport,
    *,
    command: str,
    subject: str,
    facts: Sequence[tuple[str, str]] = (),
    combined: CombinedTest | None = None,
    scores: ArrayLike | None = None,
    members: ArrayLike | None = None,
    membership: Mapping[str, Any] | None = None,
    as_claimed: AsClaimed | None = None,
    reproduce: Sequence[str] = (),
    next_steps: Sequence[str] = (),
) -> dict[str, Any]:
    """All that a report shows, as plain data for `json.dumps`; the same input gives the same.

    Args:
        report: the verdict with its numbers, assumptions and checks.
        command: the `dpaudit` command; subject: what it audited.
        facts: what there was to audit, as names and values.
        combined: the tests that decided; None where nothing could.
        scores: one a record, high for "member"; members: 1 where the record was in.
        membership: attacks on the run's own records, as `membership.report` has them; they stand
            beside the verdict.
        as_claimed: what the observations of crafted gradients say as numbers.
        reproduce: command lines, or calls in Python, that give this report again.
        next_steps: command lines of the design that would have power, where this one had none.
    """
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "command": command,
        "subject": subject,
        **report.to_json(),
        "facts": [{"name": name, "value": value} for name, value in facts],
        "canaries": None,
        "guesses": None,
        "correct": None,
        "tests": [],
        "grid": [],
        "tradeoff": None,
        "estimates": None,
        "roc": [],
        "histogram": None,
        "membership": membership,
        "as_claimed": None if as_claimed is None else asdict(as_claimed),
        "reproduce": list(reproduce),
        "next": list(next_steps),
        "limit": None,
    }
    if combined is not None:
        data |= _decided(combined)
        limit = limit_of_canaries(combined.one_run.delta, report.confidence)
        data["limit"] = max(limit, combined.one_run.ceiling)
    if scores is not None and members is not None:
        s_n, in_n = np.asarray(scores, dtype=np.float64), np.asarray(members) == 1
        data |= _described(s_n, in_n, report.confidence)
        if combined is not None and data["estimates"] is not None:
            mu, epsilon = combined.if_gaussian()
            finite = epsilon if np.isfinite(epsilon) else None
            data["estimates"]["if_gaussian"] = {"mu": mu, "epsilon": finite}
    return data


def write_report(folder: Path, data: Mapping[str, Any]) -> None:
    """Both files into a folder, for their owner only: they are about real members.

    Raises: RunError where the folder cannot be written.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_private(folder / JSON, text.encode())
        write_private(folder / PAGE, page(data).encode())
    except OSError as error:
        raise RunError(
            f"the report cannot be written: {error.strerror}", where=str(folder)
        ) from error


def _decided(combined: CombinedTest) -> dict[str, Any]:
    one_run, f_dp, best = combined.one_run, combined.f_dp, combined.best
    claim = f"the claim ε = {stated(one_run.epsilon)} at δ = {one_run.delta:g}"
    tests = [
        {"name": "one run, (ε, δ)", "rejects": claim, "p_value": one_run.p_value},
        {
            "name": "one run, f-DP",
            "rejects": OWN if f_dp.curve == OWN else claim,
            "p_value": f_dp.p_value,
        },
    ]
    for name, p_value in combined.observed.items():
        title = f"{name} of the observations"
        tests.append({"name": title, "rejects": CLAIMED[name], "p_value": p_value})
    for test, share in zip(tests, combined.shares.values(), strict=False):
        test["share"] = share
    rows = zip(one_run.rows, f_dp.rows, strict=True)
    own = combined.curve if combined.curve.name == OWN else None
    return {
        "canaries": one_run.canaries,
        "guesses": best.guesses,
        "correct": best.correct,
        "tests": tests,
        "grid": [asdict(row) | {"f_dp_p_value": other.p_value} for row, other in rows],
        "tradeoff": {
            "alpha": _ALPHAS.tolist(),
            "claim": _curve(approximate_dp_tradeoff(one_run.epsilon, one_run.delta)),
            "own": _curve(own) if own is not None else None,
        },
    }


def _curve(curve: TradeOffCurve) -> list[float]:
    return [min(1.0, max(0.0, curve(float(alpha)))) for alpha in _ALPHAS]


def _described(s_n: Reals, in_n: NDArray[np.bool_], confidence: float) -> dict[str, Any]:
    """ROC, AUC, TPR and histograms; nothing where all are on one side."""
    if in_n.all() or not in_n.any():
        return {}
    inside, outside = s_n[in_n], s_n[~in_n]
    found = estimated(inside, outside, confidence)
    return {
        "estimates": {
            "note": ESTIMATE,
            "confidence": confidence,
            "members": int(in_n.sum()),
            "non_members": int((~in_n).sum()),
            "auc": found["auc"],
            "tpr": found["tpr"],
        },
        "roc": found["roc"],
        "histogram": _histogram(s_n, in_n),
    }


def estimated(inside: ArrayLike, outside: ArrayLike, confidence: float) -> dict[str, Any]:
    """AUC, TPR at small false-positive rates, and the ROC curve: plain data, with intervals."""
    small = [(x, tpr_at(inside, outside, x, confidence)) for x in SMALL_FPRS]
    return {
        "auc": asdict(auc(inside, outside, confidence)),
        "tpr": [{"fpr": x, **asdict(estimate)} for x, estimate in small],
        "roc": [asdict(point) for point in roc_curve(inside, outside, confidence=confidence)],
    }


def _histogram(s_n: Reals, in_n: NDArray[np.bool_]) -> dict[str, Any] | None:
    """Counts of both sides over common bins; the farthest 0.2% are put into the outer bins."""
    finite = s_n[np.isfinite(s_n)]
    if finite.size == 0:
        return None
    low, high = np.quantile(finite, (0.002, 0.998))
    shown_n = s_n.clip(low, high)
    bins = min(40, max(10, len(s_n) // 15))
    edges = np.histogram_bin_edges(shown_n, bins=bins)
    return {
        "edges": edges.tolist(),
        "members": np.histogram(shown_n[in_n], edges)[0].tolist(),
        "non_members": np.histogram(shown_n[~in_n], edges)[0].tolist(),
    }
