"""What every accountant is: a name, the relations it knows, and ε of an event at δ."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING, Protocol

from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import AccountingError

if TYPE_CHECKING:
    from dpigu.accountants.events import Event

NO_GUARANTEE = "no guarantee: something is released without noise"


@dataclass(frozen=True)
class Epsilon:
    """An accountant's answer: the ε that may be claimed, and how it came about.

    Attributes:
        value: the upper bound, the only number to claim; None where there is no guarantee.
        lower: the lower end of the accountant's own interval, where it gives one.
        estimate: its best estimate, between `lower` and `value`, where it gives one.
        accountant: the accountant that computed `value` ('pld' where PRV fell back).
        note: empty, or one sentence on a fallback or a missing guarantee.
    """

    value: float | None
    lower: float | None
    estimate: float | None
    accountant: str
    note: str = ""


def rounded_up(epsilon: float, decimals: int = 4) -> str:
    """ε with so many decimals, never below it: a claim that is shown is a claim."""
    if not math.isfinite(epsilon):
        return str(epsilon)
    step = Decimal(1).scaleb(-decimals)
    return str(Decimal(epsilon).quantize(step, rounding=ROUND_CEILING))


def stated(epsilon: float) -> str:
    """ε as a claim is made: four digits, rounded up, without zeros at the end."""
    four = Context(prec=4, rounding=ROUND_CEILING)
    return f"{float(four.create_decimal(repr(float(epsilon)))):.4g}"


class Accountant(Protocol):
    """Turns an event into an upper bound on ε."""

    @property
    def name(self) -> str:
        """The name users type."""

    @property
    def adjacencies(self) -> frozenset[Adjacency]:
        """The neighbouring relations whose sensitivity this accountant charges itself."""

    def epsilon(
        self,
        event: Event,
        delta: float,
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    ) -> Epsilon:
        """ε such that `event` is (ε, δ)-DP under `adjacency`.

        Raises:
            AccountingError: an unknown event, δ outside (0, 1), or a relation it does not know.
        """


def checked_delta(delta: float) -> float:
    """δ as a float, refused outside (0, 1)."""
    if not 0.0 < float(delta) < 1.0:
        raise AccountingError(
            "δ is not a probability that says anything",
            where="delta",
            got=delta,
            expected="0 < δ < 1",
            remedy="Choose δ well below 1 / number of records.",
        )
    return float(delta)


def checked_epsilon(epsilon: float) -> float:
    """ε as a float, refused where it is negative or not finite."""
    if not 0.0 <= float(epsilon) < math.inf:
        raise AccountingError(
            "ε is not a privacy loss that can be asked about",
            where="epsilon",
            got=epsilon,
            expected="a finite ε ≥ 0",
            remedy="Give ε as a number.",
        )
    return float(epsilon)


def checked_adjacency(name: str, known: Iterable[Adjacency], adjacency: Adjacency) -> Adjacency:
    """The relation, refused where the accountant called `name` does not charge it itself."""
    known_values = sorted(relation.value for relation in known)
    if adjacency not in known_values:
        raise AccountingError(
            f"the accountant '{name}' does not know this neighbouring relation",
            where="adjacency",
            got=str(adjacency),
            expected=" or ".join(known_values),
            remedy="Use the accountant 'pld', which charges every relation offered.",
        )
    return Adjacency(adjacency)
