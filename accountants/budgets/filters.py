"""Privacy filters: whether the releases of all runs together still fit one (ε, δ).

Every filter answers one question about canonical terms, `share`: what part of the budget they
take. More than 1 does not fit. Which mechanisms come next may be chosen after seeing what the
ones before released, and runs may overlap in time (Haney et al. 2023, arXiv 2309.05901).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from dpigu.accountants.base import checked_delta, checked_epsilon
from dpigu.accountants.events import Term, has_guarantee
from dpigu.accountants.renyi_orders.rdp import composed_rdp
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import BudgetError

if TYPE_CHECKING:
    from dp_accounting import DpEvent

ROUNDING = 1e-9
"""Relative margin for the float sums of Rényi divergences, far above their rounding."""


class Filter(Protocol):
    """Decides whether releases still fit (ε, δ), whatever led to choosing them."""

    @property
    def epsilon(self) -> float: ...
    @property
    def delta(self) -> float: ...
    def prepared(self, first: tuple[Term, ...]) -> Filter:
        """The filter with all that the first mechanism, chosen before any release, fixes."""
        ...

    def share(self, terms: tuple[Term, ...]) -> float:
        """The part of the budget that these terms take together; above 1 they do not fit."""
        ...


@dataclass(frozen=True)
class RenyiFilter:
    """Σ_i r_i(α) ≤ ρ(α) = ε − ln(1 − 1/α) + ln(δα)/(α − 1), at one order α.

    r_i(α) is the Rényi divergence of mechanism i at order α, and ρ(α) the largest that
    conversion takes to (ε, δ). As long as the sum keeps below ρ(α), all releases together are
    (ε, δ)-DP, however mechanisms were chosen.

    The order is fixed **before the first release**: it is the one, of dp-accounting's grid, at
    which the first mechanism fits most often. So a single run, and any number of equal ones,
    fit exactly where RDP accounting says that they do. An order picked anew each time ("it
    fits at some order") has no proof at δ: which order holds at the end then depends on what
    was released, and the bounds of all orders add up.

    Args:
        epsilon, delta: the budget.
        order: α; None until the first mechanism fixes it.

    Source: Feldman and Zrnic 2021 (arXiv 2008.11193); Lécuyer 2021 (arXiv 2103.01379);
    conversion: Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Proposition 12.
    """

    epsilon: float
    delta: float
    order: float | None = None

    def __post_init__(self) -> None:
        checked_epsilon(self.epsilon)
        checked_delta(self.delta)
        if self.order is None:
            return
        if self.order not in composed_rdp(())[0] or self.limit(self.order) <= 0:
            raise BudgetError(
                "no mechanism fits this budget at this order",
                where="order",
                got=self.order,
                expected="an order of dp-accounting's grid whose conversion leaves room below ε",
                remedy="Leave the order out: the first run fixes the best one for it.",
            )

    def prepared(self, first: tuple[Term, ...]) -> RenyiFilter:
        if self.order is not None or not first or not has_guarantee(first):
            return self
        orders, rdp = composed_rdp(first)
        room = [
            (self.limit(float(order)) / float(r), -float(order))
            for order, r in zip(orders, rdp, strict=True)
            if r > 0 and self.limit(float(order)) > 0
        ]
        if not room:
            return self
        return replace(self, order=-max(room)[1])

    def share(self, terms: tuple[Term, ...]) -> float:
        if not terms:
            return 0.0
        if not has_guarantee(terms) or self.order is None:
            return math.inf
        orders, rdp = composed_rdp(terms)
        # A divergence grows with its order, so where the series of this one does not converge
        # that of the next one bounds it.
        spent = min(float(r) for order, r in zip(orders, rdp, strict=True) if order >= self.order)
        return spent * (1 + ROUNDING) / self.limit(self.order)

    def limit(self, order: float) -> float:
        """ρ(α): the largest Rényi divergence at this order that conversion takes to (ε, δ)."""
        if not 1 < order < math.inf:
            return -math.inf
        return self.epsilon - math.log1p(-1 / order) + math.log(self.delta * order) / (order - 1)


@dataclass(frozen=True)
class DeclaredReleases:
    """Each release is one of a list that was declared at creation, and is taken at most once.

    The list is composed once, tightly (PLD), and must fit (ε, δ). Releases may be taken in any
    order, chosen after seeing others, or never. Proof: let V_S(ε) = E[(1 − e^(ε − Σ_S L_j))₊]
    be the δ of the multiset S of privacy losses. Taking j first, whatever it shows, and the
    rest of S afterwards gives E_j[V_{S∖j}(ε − L_j)] = V_S(ε), which does not depend on the
    choice of j; and V_{S∖j} ≤ V_S. By induction every adaptive way through S stays within V_S.

    Args:
        epsilon, delta: the budget.
        releases: the declared list, as canonical terms.
    """

    epsilon: float
    delta: float
    releases: tuple[Term, ...]

    @classmethod
    def checked(
        cls,
        epsilon: float,
        delta: float,
        releases: tuple[Term, ...],
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    ) -> DeclaredReleases:
        """The filter, refused where the whole list does not fit (ε, δ) by PLD."""
        from dpigu.accountants.registry import get_accountant

        event = event_of(releases)
        spent = get_accountant("pld").epsilon(event, delta, adjacency).value
        if spent is None or spent > epsilon:
            raise BudgetError(
                "the declared runs do not fit the budget together",
                where="declared",
                got="no guarantee" if spent is None else f"ε = {spent:.6g}",
                expected=f"ε ≤ {epsilon:g} at δ = {delta:g}",
                remedy="Declare fewer or noisier runs, or a larger ε.",
            )
        return cls(epsilon, delta, releases)

    def prepared(self, first: tuple[Term, ...]) -> DeclaredReleases:
        return self

    def share(self, terms: tuple[Term, ...]) -> float:
        declared = counts_of(self.releases)
        taken = counts_of(terms)
        return max(
            (n / declared[key] if declared[key] else math.inf for key, n in taken.items()),
            default=0.0,
        )


def counts_of(terms: Iterable[Term]) -> Counter[tuple[float, float]]:
    """How often each (rate, noise multiplier) runs."""
    counts: Counter[tuple[float, float]] = Counter()
    for term in terms:
        counts[term.rate, term.noise_multiplier] += term.count
    return counts


def terms_of(counts: Counter[tuple[float, float]]) -> tuple[Term, ...]:
    """Canonical terms from counts; what does not run is left out."""
    return tuple(sorted(Term(q, z, n) for (q, z), n in counts.items() if n > 0))


def event_of(terms: tuple[Term, ...]) -> DpEvent:
    """The event that has these canonical terms."""
    from dp_accounting import dp_event

    return dp_event.ComposedDpEvent(
        [
            dp_event.SelfComposedDpEvent(
                dp_event.PoissonSampledDpEvent(
                    term.rate, dp_event.GaussianDpEvent(term.noise_multiplier)
                ),
                term.count,
            )
            for term in terms
        ]
    )
