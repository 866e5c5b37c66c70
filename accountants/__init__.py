"""RDP, PLD and PRV behind one protocol, and the calibration of noise to a target (ε, δ).

Importing this package is cheap: the numerical libraries load when an accountant is first used.
"""

from __future__ import annotations

from accountants.base import Accountant, Epsilon
from accountants.calibrate import calibrate_noise_multiplier, max_steps_within
from accountants.paper import paper_sigma
from accountants.registry import ACCOUNTANTS, get_accountant
from accountants.selection import Trials, cheapest_trials, tuned_epsilon

__all__ = [
    "ACCOUNTANTS",
    "Accountant",
    "Epsilon",
    "Trials",
    "calibrate_noise_multiplier",
    "cheapest_trials",
    "get_accountant",
    "max_steps_within",
    "paper_sigma",
    "tuned_epsilon",
]
