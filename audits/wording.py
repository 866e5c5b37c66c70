"""How numbers are written in verdicts and reports."""

from __future__ import annotations

import math


def down(value: float, decimals: int = 3) -> str:
    """A number rounded down to so many decimals: a bound is never printed larger than it is."""
    if not math.isfinite(value):
        return "∞"
    return f"{math.floor(value * 10**decimals) / 10**decimals:.{decimals}f}"


def up(value: float, decimals: int = 3) -> str:
    """A number rounded up: an upper limit is never printed smaller than it is."""
    if not math.isfinite(value):
        return "∞"
    return f"{math.ceil(value * 10**decimals) / 10**decimals:.{decimals}f}"


def p_text(p: float) -> str:
    """A p-value in three digits, and never as 0."""
    return f"{p:.3g}" if p >= 1e-12 else "below 1e-12"


def one_in(p: float) -> str:
    """⌊1/p⌋ for a p-value, in words where it is beyond what a test can show."""
    return f"{math.floor(1 / p):,}" if p > 1e-9 else "a billion"


def percent(confidence: float) -> str:
    """A confidence in percent, with all its digits."""
    return f"{100 * confidence:.6g}%"
