"""Many independent trainings, each with one record in or out by a coin: told by the final model."""

from dpigu.audits.campaign.judged import Campaign, Thresholds
from dpigu.audits.campaign.run import run_campaign
from dpigu.audits.campaign.target import Target, crafted_target

__all__ = ["Campaign", "Target", "Thresholds", "crafted_target", "run_campaign"]
