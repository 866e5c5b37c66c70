"""Audits: whether evidence contradicts a privacy claim. They never confirm one.

A name is loaded when it is first used, so that the checks of `conformance` need no trainer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "dpigu.audits":
    raise ImportError("import dpigu.audits, or take what you need from dpigu")

if TYPE_CHECKING:
    from dpigu.audits.campaign import (
        Campaign,
        GradientTargets,
        Targets,
        crafted_targets,
        gradient_targets,
        run_campaign,
    )
    from dpigu.audits.canaries import CanaryPlan, GradientCanaries, load_plan, plan_canaries
    from dpigu.audits.conformance import (
        Check,
        ConformanceError,
        check_stage,
        checks_for,
        parametrize_with_checks,
    )
    from dpigu.audits.evidence import EvidenceError
    from dpigu.audits.external import (
        SIGNALS,
        PlantedCanaries,
        ScoresAudit,
        audit_planted,
        audit_scores,
        foreign_scores,
        plant,
        planted_scores,
        read_scores,
    )
    from dpigu.audits.mechanism import audit_mechanism
    from dpigu.audits.membership import ATTACKS, Membership, estimate_membership
    from dpigu.audits.replay import ReplayAudit, audit_replay, made_up_training
    from dpigu.audits.report import card, report_data, write_report
    from dpigu.audits.run_audit import ModelAudit, audit_model
    from dpigu.audits.statistics import (
        CombinedTest,
        accounted_curve,
        approximate_dp_tradeoff,
        auc,
        clopper_pearson_epsilon,
        combined_test,
        f_dp_epsilon_if_gaussian,
        fdp_one_run_test,
        gaussian_tradeoff,
        guess_grid,
        mu_to_epsilon,
        one_run_ceiling,
        one_run_epsilon,
        one_run_p_value,
        one_run_test,
        roc_curve,
        tpr_at,
    )
    from dpigu.audits.verdict import AuditReport, Verdict, invalid_audit, judge
    from dpigu.audits.watching import StopWhenContradicted, Watched, watch_run

_ROOMS = (
    "conformance",
    "evidence",
    "statistics",
    "verdict",
    "report",
    "canaries",
    "external",
    "mechanism",
    "replay",
    "membership",
    "run_audit",
    "watching",
    "campaign",
)
"""Where names are looked for: no room needs one that comes after it."""

__all__ = [
    "ATTACKS",
    "SIGNALS",
    "AuditReport",
    "Campaign",
    "CanaryPlan",
    "Check",
    "CombinedTest",
    "ConformanceError",
    "EvidenceError",
    "GradientCanaries",
    "GradientTargets",
    "Membership",
    "ModelAudit",
    "PlantedCanaries",
    "ReplayAudit",
    "ScoresAudit",
    "StopWhenContradicted",
    "Targets",
    "Verdict",
    "Watched",
    "accounted_curve",
    "approximate_dp_tradeoff",
    "auc",
    "audit_mechanism",
    "audit_model",
    "audit_planted",
    "audit_replay",
    "audit_scores",
    "card",
    "check_stage",
    "checks_for",
    "clopper_pearson_epsilon",
    "combined_test",
    "crafted_targets",
    "estimate_membership",
    "f_dp_epsilon_if_gaussian",
    "fdp_one_run_test",
    "foreign_scores",
    "gaussian_tradeoff",
    "gradient_targets",
    "guess_grid",
    "invalid_audit",
    "judge",
    "load_plan",
    "made_up_training",
    "mu_to_epsilon",
    "one_run_ceiling",
    "one_run_epsilon",
    "one_run_p_value",
    "one_run_test",
    "parametrize_with_checks",
    "plan_canaries",
    "plant",
    "planted_scores",
    "read_scores",
    "report_data",
    "roc_curve",
    "run_campaign",
    "tpr_at",
    "watch_run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in _ROOMS:
            module = importlib.import_module(f"dpigu.audits.{room}")
            if name in vars(module):
                return getattr(module, name)
    raise AttributeError(f"dpigu.audits has no public name {name!r}")
