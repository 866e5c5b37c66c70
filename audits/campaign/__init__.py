"""Many independent trainings, each with records in or out by coins: told by the final models."""

from dpigu.audits.campaign.gradient_target import GradientTargets, gradient_targets
from dpigu.audits.campaign.judged import Campaign
from dpigu.audits.campaign.run import run_campaign
from dpigu.audits.campaign.target import Targets, crafted_targets

__all__ = [
    "Campaign",
    "GradientTargets",
    "Targets",
    "crafted_targets",
    "gradient_targets",
    "run_campaign",
]
