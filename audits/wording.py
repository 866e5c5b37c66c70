"""How numbers are written in verdicts and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any


def down(value: float, digits: int = 3) -> str:
    """A number to so many digits, and no more decimals, rounded down: a bound as it is printed.

    The one rounding of what an audit shows: never larger than it is, without zeros at the end.
    """
    return _rounded(value, digits, ROUND_FLOOR)


def up(value: float, digits: int = 3) -> str:
    """The same rounded up: an upper limit is never printed smaller than it is."""
    return _rounded(value, digits, ROUND_CEILING)


def _rounded(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value):
        return "∞"
    exact = Decimal(repr(float(value)))
    decimals = min(digits, max(0, digits - 1 - exact.adjusted()))
    rounded = exact.quantize(Decimal(1).scaleb(-decimals), rounding=rounding)
    return f"{rounded.normalize():f}"


def p_text(p: float) -> str:
    """A p-value in three digits, and never as 0."""
    return f"{p:.3g}" if p >= 1e-12 else "below 1e-12"


def one_in(p: float) -> str:
    """⌊1/p⌋ for a p-value, in words where it is beyond what a test can show."""
    return f"{math.floor(1 / p):,}" if p > 1e-9 else "a billion"


def guesses_told(data: Mapping[str, Any]) -> list[str]:
    """How many guesses of a report were right: of all canaries first, then where it was surest."""
    most = data["grid"][-1]
    right = f"{most['correct']} of {most['guesses']} right, where coins get half"
    if (count := data["guesses"]) == most["guesses"]:
        return [f"{right}."]
    surest = f"Of the {count} surest, {data['correct']} were"
    if data["lower_bound"] > 0:
        return [f"{right}.", f"{surest}: the lower bound comes from those."]
    return [
        f"{right}.",
        f"{surest}: the best of {len(data['grid'])} planned counts, and no more than chance gives.",
    ]


def percent(confidence: float) -> str:
    """A confidence in percent, with all its digits."""
    return f"{100 * confidence:.6g}%"
