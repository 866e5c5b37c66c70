"""How much a test tries: everything under `make deep`, what says the same for less otherwise."""

from __future__ import annotations

import os

from dpigu.audits.mechanism.audit import Effort

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
BRIEF = Effort(explore=5, train=15, fewest=50, usual=50, most=1000, draws=200, walk=6)
"""Half of what `dpaudit mechanism --quick` runs."""
