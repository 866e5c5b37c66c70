"""A plan for the model alone: what it says is needed contradicts, and one guess less does not."""

from __future__ import annotations

import numpy as np
import pytest
from dpigu.audits.statistics import SHARES, guess_grid, one_run_test
from dpigu.audits.statistics.black_box import plan_black_box
from dpigu.dpcore import DataError

LEVEL = 1 - 0.05 * SHARES["one-run"]


def bound(m: int, guesses: int, right: int) -> float:
    """The bound of an audit with so many right among its surest guesses."""
    coins = np.zeros(m, dtype=int)
    coins[: m // 2] = 1
    scores = np.linspace(1, -1, m)
    wrong = guesses - right
    coins[:wrong] = 0
    return one_run_test(scores, coins, [guesses], 1.0, 1e-5, 1 - (1 - LEVEL) / 12).lower_bound


def test_the_fewest_right_guesses_pass_the_claim_and_one_less_does_not() -> None:
    (row,) = plan_black_box(epsilon=1.0, delta=1e-5, canaries=[400])
    assert len(guess_grid(400)) == 12 and row.needed
    for guesses, right in row.needed:
        assert bound(400, guesses, right) > 1.0 >= bound(400, guesses, right - 1)


def test_more_canaries_need_a_smaller_share_and_few_can_do_nothing() -> None:
    rows = plan_black_box(epsilon=2.0, delta=1e-5, canaries=[20, 200, 2000])
    assert rows[0].easiest is None and rows[0].ceiling < 2.0
    shares = [right / guesses for guesses, right in (r.easiest for r in rows[1:] if r.easiest)]
    assert len(shares) == 2 and shares[0] > shares[1] > 0.88
    with pytest.raises(DataError, match="a canary or more"):
        plan_black_box(epsilon=1.0, delta=1e-5, canaries=[])
