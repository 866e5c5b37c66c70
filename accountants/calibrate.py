"""The smallest noise multiplier, and the largest number of steps, within a target (ε, δ)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from dpigu.accountants.base import Accountant, checked_delta, checked_epsilon
from dpigu.accountants.pld import PLD
from dpigu.accountants.registry import get_accountant
from dpigu.accountants.renyi_orders.rdp import RDP
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import AccountingError

if TYPE_CHECKING:
    from dpigu.accountants.events import Event

LARGEST_MULTIPLIER = 1e6
COARSE = 1e-2
"""The cell of a PLD that makes a guess: much faster, and ε larger by less than 1e-4."""


def calibrate_noise_multiplier(
    make_event: Callable[[float], Event],
    target_epsilon: float,
    delta: float,
    accountant: str | Accountant,
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    tolerance: float = 1e-4,
) -> float:
    """The smallest multiple z of `tolerance` with ε(make_event(z), δ) ≤ target.

    z itself was evaluated and keeps the target; z − tolerance was evaluated and does not
    (or is 0). PLD and PRV start from the answer of a coarse PLD, and that from RDP's, so that the
    slow ones need few evaluations; the answer does not depend on it as long as ε falls as z grows.

    Args:
        make_event: the event of the whole plan, as a function of the noise multiplier.
        target_epsilon: ε > 0.
        delta: δ in (0, 1).
        accountant: a name or an accountant.
        adjacency: the neighbouring relation of the claim.
        tolerance: the step of the grid, in units of the multiplier.

    Raises:
        AccountingError: a target that is not a number > 0, or that even a multiplier of 1e6
            does not reach; whatever the accountant refuses.

    Examples:
        >>> from dp_accounting import GaussianDpEvent
        >>> round(calibrate_noise_multiplier(GaussianDpEvent, 4.38, 1e-5, "pld"), 2)
        1.0
    """
    knows = _resolve(accountant)
    target, delta = _checked_target(target_epsilon), checked_delta(delta)
    if not 0 < tolerance < 1:
        raise AccountingError(
            "the tolerance is not a step in the noise multiplier",
            where="tolerance",
            got=tolerance,
            expected="0 < tolerance < 1",
            remedy="Use 1e-4.",
        )

    def multiplier(k: int) -> float:
        return round(k * tolerance, 12)

    @cache
    def gap(k: int) -> float:
        if k == 0:
            return math.inf
        return _log_ratio(knows.epsilon(make_event(multiplier(k)), delta, adjacency).value, target)

    largest = math.floor(LARGEST_MULTIPLIER / tolerance)
    guess, spread = _guess(make_event, target, delta, knows, adjacency)
    if guess is None and gap(largest) > 0:
        raise _unreachable(knows, make_event(multiplier(largest)), target, delta, adjacency)
    k = min(max(round((guess or 1.0) / tolerance), 1), largest)
    low, high = k, k
    while gap(high) > 0:
        if high == largest:
            raise _unreachable(knows, make_event(multiplier(largest)), target, delta, adjacency)
        low, high = high, min(max(math.ceil(high * spread), high + 1), largest)
        spread **= 2
    while gap(low) <= 0:
        low, high = min(math.floor(low / spread), low - 1), low
        spread **= 2
    return multiplier(_edge(gap, low, high)[1])


def max_steps_within(
    make_event: Callable[[int], Event],
    upper: int,
    target_epsilon: float,
    delta: float,
    accountant: str | Accountant,
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
) -> int:
    """The largest n in [0, upper] with ε(make_event(n), δ) ≤ target; one evaluation if upper fits.

    n was evaluated and keeps the target, n + 1 was evaluated and does not (or n is `upper`).
    ε must grow with n.

    Raises:
        AccountingError: the target is passed already at n = 0, or is not a number > 0.
    """
    knows = _resolve(accountant)
    target, delta = _checked_target(target_epsilon), checked_delta(delta)

    @cache
    def gap(steps: int) -> float:
        return _log_ratio(knows.epsilon(make_event(steps), delta, adjacency).value, target)

    if upper < 0 or gap(0) > 0:
        raise AccountingError(
            "the budget is passed before the first step",
            where="max_steps_within",
            got=upper if upper < 0 else knows.epsilon(make_event(0), delta, adjacency).value,
            expected="upper ≥ 0" if upper < 0 else f"ε ≤ {target:g}",
            remedy="Raise the target, or spend less before.",
        )
    return upper if gap(upper) <= 0 else _edge(gap, 0, upper)[0]


def _edge(gap: Callable[[int], float], low: int, high: int) -> tuple[int, int]:
    """Adjacent integers between `low` and `high` where gap > 0 changes, by a guarded secant."""
    side = gap(low) > 0
    points = [low, high]
    while high - low > 1:
        k = _secant(points[-2], gap(points[-2]), points[-1], gap(points[-1]))
        inside = k is not None and low - 1 <= k <= high + 1 and len(points) < 20
        k = min(max(k, low + 1), high - 1) if inside and k is not None else (low + high) // 2
        points.append(k)
        if (gap(k) > 0) == side:
            low = k
        else:
            high = k
    return low, high


def _secant(a: int, gap_a: float, b: int, gap_b: float) -> int | None:
    """The zero of the line through two points in ln(1 + k), rounded up; None without one."""
    if not (math.isfinite(gap_a) and math.isfinite(gap_b)) or gap_a == gap_b:
        return None
    x, y = math.log1p(a), math.log1p(b)
    zero = y - gap_b * (y - x) / (gap_b - gap_a)
    return math.ceil(math.expm1(zero)) if zero < 60 else None


def _guess(
    make_event: Callable[[float], Event],
    target: float,
    delta: float,
    knows: Accountant,
    adjacency: Adjacency,
) -> tuple[float | None, float]:
    """A multiplier near the answer, found by a quicker accountant, and by what factor it may be
    off at first; None where there is no quicker one, or it finds none."""
    guide: Accountant
    if isinstance(knows, RDP):
        return None, 2.0
    if knows == PLD(grid=COARSE):
        guide, spread, adjacency = RDP(), 1.1, Adjacency.ADD_OR_REMOVE_ONE
    else:
        guide, spread = PLD(grid=COARSE), 1.001 if isinstance(knows, PLD) else 1.01
    try:
        return calibrate_noise_multiplier(make_event, target, delta, guide, adjacency), spread
    except AccountingError:
        return None, 2.0


def _resolve(accountant: str | Accountant) -> Accountant:
    return get_accountant(accountant) if isinstance(accountant, str) else accountant


def _checked_target(target: float) -> float:
    if checked_epsilon(target) == 0.0:
        raise AccountingError(
            "no finite noise gives ε = 0",
            where="epsilon",
            got=target,
            expected="ε > 0",
            remedy="Choose a target above 0.",
        )
    return float(target)


def _log_ratio(epsilon: float | None, target: float) -> float:
    """ln(ε/target): > 0 exactly where the target is passed, ∞ without a guarantee."""
    if epsilon is None:
        return math.inf
    if epsilon == 0:
        return -math.inf
    ratio = math.log(epsilon) - math.log(target)
    return max(ratio, 5e-324) if epsilon > target else min(ratio, 0.0)


def _unreachable(
    knows: Accountant, event: Event, target: float, delta: float, adjacency: Adjacency
) -> AccountingError:
    return AccountingError(
        f"no noise multiplier up to {LARGEST_MULTIPLIER:g} reaches this target",
        where=f"calibration by '{knows.name}' at δ = {delta:g}",
        got=knows.epsilon(event, delta, adjacency).value,
        expected=f"ε ≤ {target:g}",
        remedy="Raise ε or δ, or lower what the plan spends at a fixed noise.",
    )
