"""RDP, PLD and PRV behind one protocol, and the calibration of noise to a target (ε, δ).

Importing this package is cheap: the numerical libraries load when an accountant is first used.
"""

from __future__ import annotations

from accountants.base import Accountant, Epsilon
from accountants.calibrate import calibrate_noise_multiplier, max_steps_within
from accountants.paper import paper_sigma
from accountants.registry import ACCOUNTANTS, get_accountant

__all__ = [
    "ACCOUNTANTS",
    "Accountant",
    "Epsilon",
    "calibrate_noise_multiplier",
    "get_accountant",
    "max_steps_within",
    "paper_sigma",
]
