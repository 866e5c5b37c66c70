"""Correlated noise without an end: what is encoded in buffers, its scale, and what is charged.

The reference is the definition: C as a dense matrix, in NumPy, over few steps.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent
from dpigu.accountants.events import Term, flatten
from dpigu.dpcore import GrammarError, Phase, Pipeline, Plan, PoissonSampler, PrivacyError
from dpigu.dpcore.noise.correlated import (
    Correlation,
    _Buffers,
    _Past,
    column_of,
    inverse,
    length_of,
)
from dpigu.mechanisms import BufferedToeplitz, ClippedCount, Flat, Gaussian
from dpigu.mechanisms.release.buffered import best_buffers, endless_error
from dpigu.mechanisms.release.factorisations import mean_error, optimal_column
from dpigu.trainers import resume, train
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.explanation import explanation
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.noise.test_noise import StopAt
from tests.laws.test_correlated_noise import (
    BATCH,
    SIGMA,
    SIZE,
    batches,
    check_encoded_and_decoded,
    dense,
    run,
    watched,
)
from tests.support.laws.data import linear, points, settings_of

PAIRS = st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 0.99)), min_size=1, max_size=3)
TWO = ((0.3, 0.9), (0.2, 0.5))
JAX_LENGTHS = {
    1: 19.308328125451993,
    4: 5.412576133825654,
    7: 3.533065419950924,
    30: 1.3206621365080478,
}
"""jax_privacy 2.0.0: √minsep_sensitivity_squared of TWO's column of 30, by min_sep."""
JAX_LAST, JAX_ERROR = 0.015700429735878887, 1.4804093946048384
"""Its last number, and √mean(per_query_error)."""
JAX_BANDED = (0.7080607704861042, 0.47455280919815174, 0.3977448832907015, 0.33948281900095245)
JAX_BANDED_ERROR = 3.2405935970213586
"""optimize_banded_toeplitz(n=64, bands=4), and √loss of it."""


def pipeline_of(pairs, turns=2, **slots) -> Pipeline:
    factorisation = BufferedToeplitz(bands=turns, given=tuple(pairs))
    noiser = Gaussian(noise_multiplier=SIGMA)
    return Pipeline(clipper=Flat(bound=1.0), noiser=noiser, factorisation=factorisation, **slots)


def plan_of(steps, turns=2, pairs=TWO) -> Plan:
    return Plan((Phase("main", pipeline_of(pairs, turns), steps),))


def law_encoded_and_decoded(pairs, steps) -> None:
    """Buffers give what the column that they stand for gives."""
    matrix = dense(column_of(pairs, steps), steps)
    check_encoded_and_decoded(pipeline_of(pairs), matrix, steps)


@given(pairs=PAIRS, steps=st.integers(1, 7))
def test_sums_are_encoded_and_what_was_released_is_decoded(pairs, steps):
    law_encoded_and_decoded(pairs, steps)


def law_sensitivity_of_all_turns(pairs, turns, steps) -> None:
    """A record of row 1 that takes all its turns, from the first step on, moves the encoded sums
    of all steps together by the sensitivity at most, and by nearly that; noise has σ times it."""
    row = torch.zeros(1, SIZE)
    row[0, 1] = 1.0
    without = batches(steps)
    with_ = [torch.cat([g, row]) if t % turns == 0 else g for t, g in enumerate(without)]
    seen = []
    for rows in (without, with_):
        with watched() as these:
            run(pipeline_of(pairs, turns), rows)
        seen.append(these)
    moved = math.sqrt(
        sum(float((a - b).norm()) ** 2 for (a, _, _), (b, _, _) in zip(*seen, strict=True))
    )
    for _, sensitivity, released in seen[0]:
        assert moved * (1 - 1e-9) <= sensitivity <= moved * (1 + 1e-4)
        std = float(released.variance[0].sqrt()) * BATCH
        assert std == pytest.approx(SIGMA * sensitivity, rel=1e-6) and std >= SIGMA * sensitivity


@given(pairs=PAIRS, turns=st.integers(1, 4), steps=st.integers(1, 6))
def test_a_record_moves_all_encoded_sums_within_the_noise(pairs, turns, steps):
    law_sensitivity_of_all_turns(pairs, turns, steps)


@given(pairs=PAIRS, turns=st.integers(1, 3), steps=st.integers(1, 5))
def test_no_rows_at_the_turns_of_a_record_move_them_more(pairs, turns, steps):
    """Whichever turn is its first, whichever it takes, whatever signs its rows have."""
    matrix = dense(column_of(pairs, steps), steps)
    most = np.linalg.norm(matrix @ (np.arange(steps) % turns == 0))
    for first in range(turns):
        own = np.arange(first, steps, turns)
        for signs in itertools.product((-1.0, 0.0, 1.0), repeat=len(own)):
            u = np.zeros(steps)
            u[own] = signs
            assert np.linalg.norm(matrix @ u) <= most * (1 + 1e-12)


def law_a_phase_is_one_release(turns, steps, rate) -> None:
    """Whatever the rate, and however few steps of it ran: one Gaussian that is not sampled."""
    plan = plan_of(steps, turns)
    for charged in (None, (1,), (steps,)):
        event = plan.event(PoissonSampler(rate, 1000), charged)
        assert flatten(event) == flatten(GaussianDpEvent(SIGMA)) == (Term(1.0, SIGMA, 1),)
    (again,) = flatten(plan.event(PoissonSampler(rate, 1000), (steps + 1,)))
    assert again.count == 2


@given(turns=st.integers(1, 9), steps=st.integers(1, 40), rate=st.sampled_from((0.01, 0.1)))
def test_a_phase_is_charged_as_one_release(turns, steps, rate):
    law_a_phase_is_one_release(turns, steps, rate)


def test_the_past_is_kept_in_as_many_vectors_as_buffers():
    """And they weigh it as the column does."""
    past, one = _Buffers(TWO, 50), torch.ones(1, dtype=torch.float64)
    for step in range(50):
        before = past.before(step)
        assert len(before) == (2 if step else 0)
        mixed = sum(weight * float(p.sum_K) for weight, p in before)
        assert mixed == pytest.approx(sum(column_of(TWO, step + 1)[1:]), rel=1e-12)
        past.keep(step, _Past(one, one, one))


def test_one_correction_takes_back_a_share_of_the_noise_before():
    """DP-λCGD: z_t − λ z_{t−1}."""
    noise = inverse(column_of(((0.7, 0.7),), 6), 6)
    np.testing.assert_allclose(noise, [1, -0.7, 0, 0, 0, 0], atol=1e-12)


def test_the_grammar_refuses_what_it_cannot_promise():
    with pytest.raises(GrammarError, match="a query answers at each"):
        pipeline_of(TWO, queries=(ClippedCount(),))
    with pytest.raises(GrammarError, match="records cannot take turns so seldom"):
        plan_of(9, 3).event(PoissonSampler(0.4, 100))
    with pytest.raises(GrammarError, match="pairs"):
        BufferedToeplitz(given=((0.5, 1.0),))


@pytest.mark.parametrize("pairs", [((1e15, 0.5), (-1e15, 0.4999999999999999)), ((1.0, 1.0),)])
def test_buffers_that_may_cancel_are_refused(pairs):
    """With the first two, encoded sums once moved by 16.0 where 2.2 was stated."""

    class Cancelling(BufferedToeplitz):
        def buffers(self, steps):
            return pairs

    pipeline = dataclasses.replace(pipeline_of(TWO), factorisation=Cancelling(bands=2))
    with pytest.raises(PrivacyError, match="may cancel"):
        Correlation(pipeline, 4, 10)


# The column


def test_jax_privacy_has_the_same_matrices():
    """Column, sensitivity and error to 1e-9; and for b bands neither's best is better by 1e-6."""
    column = column_of(TWO, 30)
    assert column[-1] == pytest.approx(JAX_LAST, rel=1e-9)
    for turns, length in JAX_LENGTHS.items():
        assert length_of(column, turns) == pytest.approx(length, rel=1e-9)
    error = endless_error(TWO, 30, 30) / length_of(column, 30)
    assert error == pytest.approx(JAX_ERROR, rel=1e-9)
    assert mean_error(JAX_BANDED, 64) == pytest.approx(JAX_BANDED_ERROR, rel=1e-9)
    assert mean_error(optimal_column(64, 4), 64) == pytest.approx(JAX_BANDED_ERROR, rel=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_buffers_are_the_best_of_their_kind(momentum):
    """Against a grid of one buffer; and two are no worse."""
    steps, turns = 24, 6
    one, two = (
        endless_error(best_buffers(steps, turns, count, momentum), steps, turns, momentum)
        for count in (1, 2)
    )
    grid = np.linspace(0.05, 0.95, 19)
    others = [
        endless_error(((omega, theta),), steps, turns, momentum) for omega in grid for theta in grid
    ]
    assert one <= min(others) * (1 + 1e-9) and two <= one * (1 + 1e-6)


def test_an_encoder_whose_turns_do_not_overlap_is_one_with_bands():
    """Over as many steps as there are turns, L is ‖c‖, and the error is that of bands."""
    column = column_of(TWO, 6)
    assert length_of(column, 6) == pytest.approx(math.hypot(*column), rel=1e-12)
    assert endless_error(TWO, 6, 6) == pytest.approx(mean_error(column, 6), rel=1e-12)


def test_a_run_pays_once_and_again_when_it_is_resumed(tmp_path: Path) -> None:
    plan, data = plan_of(8, 3), points()
    common = {"out": tmp_path / "run", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        train(plan, data, linear(), settings_of(), observer=StopAt(4), **common)
    assert flatten(RunFolder(tmp_path / "run").ledger().event) == (Term(1.0, SIGMA, 1),)
    done = resume(tmp_path / "run", data=data, model=linear(), progress=False)
    assert flatten(RunFolder(tmp_path / "run").ledger().event) == (Term(1.0, SIGMA, 2),)
    text = (tmp_path / "run/public/STATEMENT.txt").read_text()
    assert "in one step at most of so many in a row: 3 (main)" in text
    assert "(of main: all steps, as if nothing were sampled)" in text
    told = " ".join(explanation(done.summary)["How it was kept"])
    assert "at most of 3 in a row, with probability 75.00%" in told
