"""Audits: whether evidence contradicts a privacy claim. They never confirm one."""

if __name__ != "dpigu.audits":
    raise ImportError("import dpigu.audits, or take what you need from dpigu")

from dpigu.audits.canaries.gradients import GradientCanaries
from dpigu.audits.canaries.planting import CanaryPlan, load_plan, plan_canaries
from dpigu.audits.conformance.check import Check, ConformanceError
from dpigu.audits.conformance.suite import check_stage, checks_for, parametrize_with_checks
from dpigu.audits.evidence import EvidenceError
from dpigu.audits.external.audit_scores import ScoresAudit, audit_scores
from dpigu.audits.external.foreign import foreign_scores
from dpigu.audits.external.tables import read_scores
from dpigu.audits.membership.attacks import ATTACKS
from dpigu.audits.membership.report import Membership, estimate_membership
from dpigu.audits.report.audit_report import report_data, write_report
from dpigu.audits.run_audit import ModelAudit, audit_model
from dpigu.audits.statistics.clopper_pearson import clopper_pearson_epsilon
from dpigu.audits.statistics.combined import CombinedTest, accounted_curve, combined_test
from dpigu.audits.statistics.fdp import (
    approximate_dp_tradeoff,
    f_dp_epsilon_if_gaussian,
    fdp_one_run_test,
    gaussian_tradeoff,
    mu_to_epsilon,
)
from dpigu.audits.statistics.one_run import (
    guess_grid,
    one_run_ceiling,
    one_run_epsilon,
    one_run_p_value,
    one_run_test,
)
from dpigu.audits.statistics.roc import auc, roc_curve, tpr_at
from dpigu.audits.verdict import AuditReport, Verdict, invalid_audit, judge

__all__ = [
    "ATTACKS",
    "AuditReport",
    "CanaryPlan",
    "Check",
    "CombinedTest",
    "ConformanceError",
    "EvidenceError",
    "GradientCanaries",
    "Membership",
    "ModelAudit",
    "ScoresAudit",
    "Verdict",
    "accounted_curve",
    "approximate_dp_tradeoff",
    "auc",
    "audit_model",
    "audit_scores",
    "check_stage",
    "checks_for",
    "clopper_pearson_epsilon",
    "combined_test",
    "estimate_membership",
    "f_dp_epsilon_if_gaussian",
    "fdp_one_run_test",
    "foreign_scores",
    "gaussian_tradeoff",
    "guess_grid",
    "invalid_audit",
    "judge",
    "load_plan",
    "mu_to_epsilon",
    "one_run_ceiling",
    "one_run_epsilon",
    "one_run_p_value",
    "one_run_test",
    "parametrize_with_checks",
    "plan_canaries",
    "read_scores",
    "report_data",
    "roc_curve",
    "tpr_at",
    "write_report",
]
