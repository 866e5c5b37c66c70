"""Canaries by fair coins: their kinds, the plan that is committed to, and how they are planted."""

from dpigu.audits.canaries.coins import check_coins
from dpigu.audits.canaries.fingerprints import data_fingerprint
from dpigu.audits.canaries.gradients import GradientCanaries
from dpigu.audits.canaries.kinds import KINDS, CanaryKind
from dpigu.audits.canaries.observations import Observations, read_observations
from dpigu.audits.canaries.planting import PLAN, CanaryPlan, load_plan, plan_canaries

__all__ = [
    "KINDS",
    "PLAN",
    "CanaryKind",
    "CanaryPlan",
    "GradientCanaries",
    "Observations",
    "check_coins",
    "data_fingerprint",
    "load_plan",
    "plan_canaries",
    "read_observations",
]
