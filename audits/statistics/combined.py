"""The tests that may decide an audit by coins, and how they share its confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from dpigu.accountants import get_accountant
from dpigu.accountants.pld import PLD
from dpigu.audits.statistics.fdp import (
    FDPResult,
    TradeOffCurve,
    approximate_dp_tradeoff,
    f_dp_epsilon_if_gaussian,
    fdp_one_run_test,
    tradeoff_from_epsilon_delta_pairs,
)
from dpigu.audits.statistics.one_run import OneRunResult, OneRunRow, bonferroni, one_run_test
from dpigu.dpcore import Adjacency
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from dp_accounting import DpEvent

TESTS = ("one-run", "f-dp")
"""The tests that may decide: each has an equal share of the error that the confidence leaves."""
OWN = "the run's own accounting"
SLOPES = 200
FARTHEST = 1e-10  # δ of the steepest line of an accountant's curve


@dataclass(frozen=True, kw_only=True)
class CombinedTest:
    """Both tests of one set of guesses; p-values are corrected for the grid, `p_value` for all.

    `one_run` has its share of the confidence, so its bound and ceiling hold at `confidence`.
    """

    one_run: OneRunResult
    f_dp: FDPResult
    curve: TradeOffCurve
    confidence: float

    @property
    def p_value(self) -> float:
        """Of the two tests together."""
        return bonferroni([self.one_run.p_value, self.f_dp.p_value])

    @property
    def against(self) -> str:
        """What is contradicted, where that is the accounting and not yet the claim itself."""
        share = (1 - self.confidence) / len(TESTS)
        only = self.f_dp.p_value < share <= self.one_run.p_value
        return OWN if only and self.curve.name == OWN else ""

    @property
    def best(self) -> OneRunRow:
        """The grid's row with the smallest p-value against the claim."""
        return min(self.one_run.rows, key=lambda row: row.p_value)

    def if_gaussian(self) -> tuple[float, float]:
        """(μ, ε) at the strongest row, if the mechanism were Gaussian: an estimate, no bound."""
        row, test = self.best, self.one_run
        return f_dp_epsilon_if_gaussian(
            test.canaries, row.guesses, row.correct, test.delta, self.confidence
        )


def combined_test(
    scores: ArrayLike,
    coins: ArrayLike,
    grid: Sequence[int],
    *,
    epsilon: float,
    delta: float,
    confidence: float,
    own: TradeOffCurve | None = None,
) -> CombinedTest:
    """Test a claim on canaries' scores: (ε, δ) in one run, and f-DP in one run.

    Both run over the whole grid, each at half of the error (Bonferroni).

    Args:
        own: the curve of the run's own accountant, where the claim is the run's own; without
            it the f-DP test takes the curve of the claim, f_{ε,δ}.

    Raises: DataError as `dpigu.audits.statistics.one_run.one_run_test`.
    """
    share = 1 - (1 - confidence) / len(TESTS)
    curve = own if own is not None else approximate_dp_tradeoff(epsilon, delta)
    return CombinedTest(
        one_run=one_run_test(scores, coins, grid, epsilon, delta, share),
        f_dp=fdp_one_run_test(curve, scores, coins, grid),
        curve=curve,
        confidence=confidence,
    )


def accounted_curve(event: DpEvent, adjacency: Adjacency) -> TradeOffCurve | None:
    """The trade-off curve of an event by its privacy loss distribution: pessimistic, symmetric.

    f = sup_i f_{ε_i, δ(ε_i)} over 200 slopes; δ(ε) is an upper bound over both directions, so
    the curve lies below the true one. None where the event guarantees nothing.
    """
    pld = PLD()
    top = pld.epsilon(event, FARTHEST, adjacency).value
    if top is None and adjacency is Adjacency.ADD_OR_REMOVE_ONE:
        top = get_accountant("rdp").epsilon(event, FARTHEST, adjacency).value
    if top is None:
        return None
    slopes = np.linspace(0.0, top, SLOPES)
    pairs = [(float(e), pld.delta(event, float(e), adjacency)) for e in slopes]
    return tradeoff_from_epsilon_delta_pairs(pairs, OWN)
