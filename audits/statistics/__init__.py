"""Valid tests and bounds on ε, how they combine, and their power."""

from dpigu.audits.statistics.additive_noise import AsClaimed
from dpigu.audits.statistics.clopper_pearson import clopper_pearson_epsilon
from dpigu.audits.statistics.combined import (
    CLAIMED,
    OWN,
    SHARES,
    WITH_SPREAD,
    CombinedTest,
    accounted_curve,
    combined_test,
)
from dpigu.audits.statistics.error_counts import (
    Criterion,
    ErrorCounts,
    runs_for_ceiling,
    runs_needed,
)
from dpigu.audits.statistics.fdp import (
    TradeOffCurve,
    approximate_dp_tradeoff,
    f_dp_epsilon_if_gaussian,
    fdp_one_run_test,
    gaussian_tradeoff,
    mu_to_epsilon,
)
from dpigu.audits.statistics.one_run import (
    GuessGrid,
    OneRunResult,
    OneRunRow,
    Reals,
    bonferroni,
    check_claim,
    check_confidence,
    guess_grid,
    one_run_ceiling,
    one_run_epsilon,
    one_run_p_value,
    one_run_test,
)
from dpigu.audits.statistics.power import ENOUGH, PowerPlan, plan_power, spread_power
from dpigu.audits.statistics.roc import auc, roc_curve, tpr_at

__all__ = [
    "CLAIMED",
    "ENOUGH",
    "OWN",
    "SHARES",
    "WITH_SPREAD",
    "AsClaimed",
    "CombinedTest",
    "Criterion",
    "ErrorCounts",
    "GuessGrid",
    "OneRunResult",
    "OneRunRow",
    "PowerPlan",
    "Reals",
    "TradeOffCurve",
    "accounted_curve",
    "approximate_dp_tradeoff",
    "auc",
    "bonferroni",
    "check_claim",
    "check_confidence",
    "clopper_pearson_epsilon",
    "combined_test",
    "f_dp_epsilon_if_gaussian",
    "fdp_one_run_test",
    "gaussian_tradeoff",
    "guess_grid",
    "mu_to_epsilon",
    "one_run_ceiling",
    "one_run_epsilon",
    "one_run_p_value",
    "one_run_test",
    "plan_power",
    "roc_curve",
    "runs_for_ceiling",
    "runs_needed",
    "spread_power",
    "tpr_at",
]
