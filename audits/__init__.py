"""Audits: whether evidence contradicts a privacy claim. They never confirm one."""

from audits.bounds import (
    clopper_pearson_epsilon,
    guess_grid,
    one_run_ceiling,
    one_run_epsilon,
    one_run_p_value,
    one_run_test,
)
from audits.canaries import CanaryPlan, load_plan, plan_canaries
from audits.checks_base import Check, ConformanceError
from audits.conformance import check_stage, checks_for, parametrize_with_checks
from audits.evidence import EvidenceError
from audits.fdp import (
    approximate_dp_tradeoff,
    f_dp_epsilon_if_gaussian,
    fdp_one_run_test,
    gaussian_tradeoff,
    mu_to_epsilon,
)
from audits.model import ModelAudit, audit_model
from audits.verdicts import AuditReport, Verdict, invalid_audit, judge

__all__ = [
    "AuditReport",
    "CanaryPlan",
    "Check",
    "ConformanceError",
    "EvidenceError",
    "ModelAudit",
    "Verdict",
    "approximate_dp_tradeoff",
    "audit_model",
    "check_stage",
    "checks_for",
    "clopper_pearson_epsilon",
    "f_dp_epsilon_if_gaussian",
    "fdp_one_run_test",
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
]
