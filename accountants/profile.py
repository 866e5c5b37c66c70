"""A whole privacy profile beside one (ε, δ), and what it says about telling one record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dpigu.accountants.pld import PLD
from dpigu.dpcore.adjacency import Adjacency

if TYPE_CHECKING:
    from dp_accounting import DpEvent

DELTAS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)
"""The δ at which a profile is given, beside the run's own."""
GRID = 1e-2
"""A hundred times the claim's own: five times as fast, and ε larger by less than 1e-4."""


def privacy_profile(
    event: DpEvent,
    deltas: Iterable[float] = DELTAS,
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
) -> list[tuple[float, float]]:
    """Pairs (δ, ε) at which an event is (ε, δ)-DP, all at once, by PLD; δ falls.

    Raises: AccountingError for an event that no accountant knows, or a δ outside (0, 1).
    """
    found = [
        (d, PLD(grid=GRID).epsilon(event, d, adjacency).value) for d in sorted(set(deltas))[::-1]
    ]
    return [(delta, epsilon) for delta, epsilon in found if epsilon is not None]


def most_true_positives(profile: Sequence[Sequence[float]], false_positives: float) -> float:
    """The largest true-positive rate that any test for one record can have.

    Every (ε, δ) of the profile bounds the power at a false-positive rate α by
    min(e^ε α + δ, 1 − e^(−ε)(1 − δ − α)), and the least of these bounds holds.

    Source: Wasserman and Zhou 2010; Kairouz, Oh, Viswanath 2015 (arXiv 1311.0776), Theorem 2.1.
    """
    bounds = [1.0]
    for delta, epsilon in profile:
        if epsilon < 700:
            bounds.append(math.exp(epsilon) * false_positives + delta)
        bounds.append(1 - math.exp(-epsilon) * (1 - delta - false_positives))
    return min(bounds)
