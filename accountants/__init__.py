"""RDP, PLD and PRV behind one protocol, and the calibration of noise to a target (ε, δ).

Importing this package is cheap: the numerical libraries load when an accountant is first used.
"""

if __name__ != "dpigu.accountants":
    raise ImportError("import dpigu.accountants, or take what you need from dpigu")

from dpigu.accountants.base import Accountant, Epsilon
from dpigu.accountants.budgets.file import BudgetFile
from dpigu.accountants.budgets.filters import DeclaredReleases, RenyiFilter
from dpigu.accountants.calibrate import calibrate_noise_multiplier, max_steps_within
from dpigu.accountants.group import group_epsilon, group_event
from dpigu.accountants.paper import paper_sigma
from dpigu.accountants.profile import most_true_positives, privacy_profile
from dpigu.accountants.registry import ACCOUNTANTS, get_accountant
from dpigu.accountants.selection import Trials, cheapest_trials, tuned_epsilon

__all__ = [
    "ACCOUNTANTS",
    "Accountant",
    "BudgetFile",
    "DeclaredReleases",
    "Epsilon",
    "RenyiFilter",
    "Trials",
    "calibrate_noise_multiplier",
    "cheapest_trials",
    "get_accountant",
    "group_epsilon",
    "group_event",
    "max_steps_within",
    "most_true_positives",
    "paper_sigma",
    "privacy_profile",
    "tuned_epsilon",
]
