"""Privacy random variables, by prv-accountant, held against PLD."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from dpigu.accountants.base import Epsilon, checked_adjacency
from dpigu.accountants.events import Term, flatten, joined_gaussian
from dpigu.accountants.pld import MANY, PLD
from dpigu.accountants.renyi_orders.rdp import one_release, rdp_epsilon
from dpigu.dpcore.adjacency import Adjacency

from dpigu.names import AccountantName

if TYPE_CHECKING:
    from dpigu.accountants.events import Event

ERROR, RELATIVE_ERROR = 0.01, 0.01
"""The error aimed at in ε, and the share of ε that it may reach where 0.01 is not affordable."""
REFINED_MESH, LARGEST_MESH = 200_000, 500_000
"""Mesh points (5 µs each): below 0.01, refine towards 1% of ε up to the first; never beyond
the second."""
FAILURES = (ValueError, RuntimeError, AssertionError, ArithmeticError)
"""What prv-accountant raises where its numerics break down."""


@dataclass(frozen=True)
class PRV:
    """The upper end of prv-accountant's interval for ε, if PLD's ε lies in that interval.

    δ's error is δ/1000, ε's at most 0.01 or 1% of ε. The library looks at one direction (a record
    removed) and does not notice when its quadrature of a mean is off, which shifts the whole
    loss by that error times the number of steps. So its interval must hold PLD's ε, which is
    an upper bound over both directions. Where it does not, or where the library fails, PLD's
    ε is reported and `accountant` and `note` say so. Either way `value` is at least PLD's.
    Add-or-remove only: the library has no notion of another relation.

    Source: Gopi, Lee, Wutschitz 2021 (arXiv 2106.02848), Theorem 5.5 and Remark 5.6.
    """

    name: AccountantName = "prv"
    adjacencies: frozenset[Adjacency] = frozenset({Adjacency.ADD_OR_REMOVE_ONE})

    def epsilon(
        self,
        event: Event,
        delta: float,
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    ) -> Epsilon:
        """ε of the event at δ; see `Accountant.epsilon`."""
        checked_adjacency(self.name, self.adjacencies, adjacency)
        terms = flatten(event)
        pld = PLD().epsilon(event, delta, adjacency)
        if pld.value is None or not terms:
            return replace(pld, accountant=self.name)
        if len(terms) > MANY:
            reason = f"prv-accountant would look at {len(terms)} different releases one by one"
            return _fallback(pld, reason)
        try:
            lower, estimate, upper = _interval(terms, float(delta), pld.value)
        except FAILURES as failure:
            return _fallback(
                pld, f"prv-accountant failed ({str(failure) or type(failure).__name__})"
            )
        if not lower <= pld.value <= upper < math.inf:
            return _fallback(pld, f"PRV's interval [{lower:.4g}, {upper:.4g}] misses PLD's bound")
        return Epsilon(upper, max(lower, 0.0), max(estimate, 0.0), self.name)


def _fallback(pld: Epsilon, reason: str) -> Epsilon:
    return replace(pld, note=f"{reason}; reported is PLD's. {pld.note}".strip(". "))


@lru_cache(maxsize=256)
def _interval(terms: tuple[Term, ...], delta: float, near: float) -> tuple[float, float, float]:
    """prv-accountant's (lower, estimate, upper) for ε at δ, given that ε is about `near`."""
    import numpy as np
    from prv_accountant import PoissonSubsampledGaussianMechanism, PRVAccountant

    delta_error = delta / 1000
    joined = [joined_gaussian(term) for term in terms]
    counts = [term.count for term in joined]
    prvs = [PoissonSubsampledGaussianMechanism(t.rate, t.noise_multiplier) for t in joined]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        reach = _reach(joined, delta_error)
        points_at_1 = 2 * reach * math.sqrt(sum(counts) / 2 * math.log(12 / delta_error))
        error = min(ERROR, max(RELATIVE_ERROR * near, points_at_1 / REFINED_MESH))
        error = max(error, points_at_1 / LARGEST_MESH)
        if not error <= max(ERROR, RELATIVE_ERROR * near):
            raise RuntimeError(f"{LARGEST_MESH} mesh points give ε only to ±{error:.2g}")
        accountant = PRVAccountant(
            prvs=prvs,
            max_self_compositions=counts,
            eps_error=error,
            delta_error=delta_error,
            eps_max=reach,
        )
        lower, estimate, upper = accountant.compute_epsilon(delta, counts)
    return float(lower), float(estimate), float(upper)


def _reach(terms: list[Term], delta_error: float) -> float:
    """How far from 0 the losses are kept: by RDP, for each alone and all together.

    prv-accountant's own rule, which takes seconds there for the same divergences.

    Source: Gopi, Lee, Wutschitz 2021 (arXiv 2106.02848), Remark 5.6.
    """
    from dpigu.accountants.renyi_orders.orders import epsilon_at

    releases = sum(term.count for term in terms)
    together = rdp_epsilon(tuple(terms), delta_error / 4)
    alone = (
        epsilon_at(one_release(t.rate, t.noise_multiplier), delta_error / 8 / releases)
        for t in terms
    )
    return max(ERROR, together, *alone) + 3
