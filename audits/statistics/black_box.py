"""How many canaries, for which claim, where the model alone is seen: what counts can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpigu.audits.statistics.combined import SHARES
from dpigu.audits.statistics.one_run import (
    check_claim,
    check_confidence,
    guess_grid,
    one_run_ceiling,
    one_run_p_value,
)
from dpigu.dpcore import DataError


@dataclass(frozen=True, kw_only=True)
class BlackBoxRow:
    """A number of canaries, and what it takes to contradict the claim with them.

    Args:
        ceiling: the largest lower bound, all guesses right.
        needed: (guesses, right) for every planned number of guesses that can contradict.
    """

    canaries: int
    ceiling: float
    needed: tuple[tuple[int, int], ...]

    @property
    def easiest(self) -> tuple[int, int] | None:
        """The pair with the smallest share of right guesses; None where none can contradict."""
        return min(self.needed, key=lambda pair: pair[1] / pair[0], default=None)


def plan_black_box(
    *, epsilon: float, delta: float, confidence: float = 0.95, canaries: Sequence[int]
) -> tuple[BlackBoxRow, ...]:
    """What the one-run test of (ε, δ) needs, at its share of the confidence; exact, no simulation.

    Raises: DataError for a claim, a confidence or a number of canaries that cannot be.
    """
    check_claim(epsilon, delta)
    check_confidence(confidence)
    if not canaries or min(canaries) < 1:
        raise DataError("a plan needs a canary or more", where="canaries", got=tuple(canaries))
    rows = []
    for m in sorted(set(canaries)):
        grid = guess_grid(m)
        level = (1 - confidence) * SHARES["one-run"] / len(grid)
        right = [(r, _fewest(m, r, epsilon, delta, level)) for r in grid]
        rows.append(
            BlackBoxRow(
                canaries=m,
                ceiling=max(one_run_ceiling(m, r, delta, 1 - level) for r in grid),
                needed=tuple((r, v) for r, v in right if v <= r),
            )
        )
    return tuple(rows)


def _fewest(m: int, r: int, epsilon: float, delta: float, level: float) -> int:
    """The fewest right of r guesses that reject the claim; r + 1 where none does."""
    low, high = 0, r + 1
    while high - low > 1:
        middle = (low + high) // 2
        rejected = one_run_p_value(m, r, middle, epsilon, delta) < level
        low, high = (low, middle) if rejected else (middle, high)
    return high
