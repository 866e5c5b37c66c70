"""Audits: whether evidence contradicts a privacy claim. They never confirm one."""

from audits.attacks import ATTACKS
from audits.bounds import (
    guess_grid,
    one_run_ceiling,
    one_run_epsilon,
    one_run_p_value,
    one_run_test,
)
from audits.canaries import CanaryPlan, load_plan, plan_canaries
from audits.checks_base import Check, ConformanceError
from audits.clopper_pearson import clopper_pearson_epsilon
from audits.conformance import check_stage, checks_for, parametrize_with_checks
from audits.deciding import Decision, accounted_curve, decide
from audits.evidence import EvidenceError
from audits.fdp import (
    approximate_dp_tradeoff,
    f_dp_epsilon_if_gaussian,
    fdp_one_run_test,
    gaussian_tradeoff,
    mu_to_epsilon,
)
from audits.foreign import foreign_scores
from audits.gradients import GradientCanaries
from audits.membership import Membership, estimate_membership
from audits.model import ModelAudit, audit_model
from audits.posthoc import ScoresAudit, audit_scores
from audits.report import report_data, write_report
from audits.roc import auc, roc_curve, tpr_at
from audits.tables import read_scores
from audits.verdicts import AuditReport, Verdict, invalid_audit, judge

__all__ = [
    "ATTACKS",
    "AuditReport",
    "CanaryPlan",
    "Check",
    "ConformanceError",
    "Decision",
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
    "decide",
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
