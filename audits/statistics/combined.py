"""The tests that may decide an audit by coins, and how they share its confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from dpigu.accountants import get_accountant
from dpigu.accountants.budgets.filters import event_of
from dpigu.accountants.events import Term, flatten
from dpigu.accountants.pld import PLD
from dpigu.audits.statistics.fdp import (
    FDPResult,
    TradeOffCurve,
    approximate_dp_tradeoff,
    f_dp_epsilon_if_gaussian,
    fdp_one_run_test,
    tradeoff_from_epsilon_delta_pairs,
)
from dpigu.audits.statistics.one_run import OneRunResult, OneRunRow, one_run_test
from dpigu.dpcore import Adjacency
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from dp_accounting import DpEvent

SHARES = {"one-run": 0.5, "f-dp": 0.5}
"""The tests of guesses that may decide, and their shares of the error."""
WITH_SPREAD = {"one-run": 0.45, "f-dp": 0.45, "spread": 0.05, "reach": 0.05}
"""The same where observations are tested as numbers: their spread against the noise that is
claimed, and how far a record moves them against the clipping bound."""
OWN = "the run's own accounting"
NOISE = "the noise that the run claims"
REACH = "the clipping bound that the run claims"
CLAIMED = {"spread": NOISE, "reach": REACH}
"""What the tests of observations contradict."""
SLOPES = 200
FARTHEST = 1e-10  # δ of the steepest line of an accountant's curve


@dataclass(frozen=True, kw_only=True)
class CombinedTest:
    """Both tests of one set of guesses; p-values are corrected for the grid, `p_value` for all.

    `one_run` has its share of the confidence, so its bound and ceiling hold at `confidence`.

    Args:
        shares: of the error, by test.
        observed: p-values of the tests in `CLAIMED`, where they may decide.
    """

    one_run: OneRunResult
    f_dp: FDPResult
    curve: TradeOffCurve
    confidence: float
    shares: Mapping[str, float]
    observed: Mapping[str, float] = field(default_factory=dict)

    @property
    def p_values(self) -> Mapping[str, float]:
        """Of every test that was made, by name; not divided by its share."""
        return {"one-run": self.one_run.p_value, "f-dp": self.f_dp.p_value, **self.observed}

    @property
    def p_value(self) -> float:
        """Of all tests together: weighted Bonferroni."""
        return min(1.0, *(p / self.shares[name] for name, p in self.p_values.items()))

    @property
    def against(self) -> str:
        """What is contradicted, where that is the accounting and not yet the claim itself."""
        error = 1 - self.confidence
        rejecting = {n for n, p in self.p_values.items() if p / self.shares[n] < error}
        if not rejecting or "one-run" in rejecting or self.curve.name != OWN:
            return ""
        return (
            OWN if "f-dp" in rejecting else CLAIMED[min(rejecting, key=self.p_values.__getitem__)]
        )

    @property
    def best(self) -> OneRunRow:
        """The grid's row that the lower bound comes from; by its p-value where there is none."""
        return max(self.one_run.rows, key=lambda row: (row.lower_bound, -row.p_value))

    def if_gaussian(self) -> tuple[float, float]:
        """(μ, ε): the largest Gaussian curve that the guesses reject, whatever the mechanism.

        Over the whole grid, at the f-DP test's share of the error. μ is a bound; ε at δ is one
        where the mechanism's curve is Gaussian.
        """
        test, share = self.one_run, (1 - self.confidence) * self.shares["f-dp"]
        level = 1 - share / len(test.rows)
        found = [
            f_dp_epsilon_if_gaussian(test.canaries, row.guesses, row.correct, test.delta, level)
            for row in test.rows
        ]
        return max(found)


def combined_test(
    scores: ArrayLike,
    coins: ArrayLike,
    grid: Sequence[int],
    *,
    epsilon: float,
    delta: float,
    confidence: float,
    own: TradeOffCurve | None = None,
    observed: Mapping[str, float] | None = None,
    shares: Mapping[str, float] = SHARES,
) -> CombinedTest:
    """Test a claim on canaries' scores: (ε, δ) in one run, and f-DP in one run.

    Both run over the whole grid, each at its share of the error (Bonferroni).

    Args:
        own: the curve of the run's own accountant, where the claim is the run's own; without
            it the f-DP test takes the curve of the claim, f_{ε,δ}.
        observed: p-values of tests of the run's own noise and clipping, by names of `CLAIMED`;
            they count only beside `own`.
        shares: of the error, fixed in the audit's plan.

    Raises: DataError as `dpigu.audits.statistics.one_run.one_run_test`.
    """
    level = 1 - (1 - confidence) * shares["one-run"]
    curve = own if own is not None else approximate_dp_tradeoff(epsilon, delta)
    return CombinedTest(
        one_run=one_run_test(scores, coins, grid, epsilon, delta, level),
        f_dp=fdp_one_run_test(curve, scores, coins, grid),
        curve=curve,
        confidence=confidence,
        shares=shares,
        observed=observed if observed is not None and own is not None else {},
    )


def accounted_curve(event: DpEvent, adjacency: Adjacency) -> TradeOffCurve | None:
    """The trade-off curve of an event by its privacy loss distribution: pessimistic, symmetric.

    f = sup_i f_{ε_i, δ(ε_i)} over 200 slopes; δ(ε) is an upper bound over both directions, so
    the curve lies below the true one. None where the event guarantees nothing.
    """
    return _curve(flatten(event), adjacency)


@lru_cache(maxsize=16)
def _curve(terms: tuple[Term, ...], adjacency: Adjacency) -> TradeOffCurve | None:
    event, pld = event_of(terms), PLD()
    top = pld.epsilon(event, FARTHEST, adjacency).value
    if top is None and adjacency is Adjacency.ADD_OR_REMOVE_ONE:
        top = get_accountant("rdp").epsilon(event, FARTHEST, adjacency).value
    if top is None:
        return None
    slopes = np.linspace(0.0, top, SLOPES)
    pairs = [(float(e), pld.delta(event, float(e), adjacency)) for e in slopes]
    return tradeoff_from_epsilon_delta_pairs(pairs, OWN)
