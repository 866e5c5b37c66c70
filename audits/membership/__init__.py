"""Membership inference by shadow models: estimates that decide nothing."""

from dpigu.audits.membership.attacks import ATTACKS
from dpigu.audits.membership.report import Membership, estimate_membership

__all__ = ["ATTACKS", "Membership", "estimate_membership"]
