"""Signals of others' models, against their definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dpigu.audits.external.signals import (
    SIGNALS,
    exposure,
    label_odds,
    log_likelihood,
    min_k,
    signal_for,
    squared_error,
)
from dpigu.dpcore import DataError

TOKENS = np.array([[-1.0, -2.0, -3.0, -4.0, -10.0], [-0.5, -1.5, np.nan, np.nan, np.nan]])


def test_odds_are_those_of_the_label_and_finite_at_the_ends() -> None:
    odds = label_odds([0.0, 0.2, 0.5, 1.0])
    assert odds[1] == pytest.approx(math.log(0.25)) and odds[2] == 0
    assert np.isfinite(odds).all() and (np.diff(odds) > 0).all()
    with pytest.raises(DataError, match="must lie"):
        label_odds([1.2])


def test_squared_errors_sum_over_a_records_outputs() -> None:
    made = squared_error([[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]])
    assert made.tolist() == [-5.0, -9.0]
    assert squared_error([1.0, 2.0], [1.0, 4.0]).tolist() == [0.0, -4.0]


def test_a_likelihood_is_minus_the_log_of_a_perplexity() -> None:
    perplexity = math.exp(-np.mean([-0.5, -1.5]))
    assert log_likelihood(TOKENS)[1] == pytest.approx(-math.log(perplexity))
    assert log_likelihood(TOKENS)[0] == -4.0


def test_min_k_looks_at_the_least_likely_tokens_that_are_there() -> None:
    assert min_k(TOKENS, 0.4).tolist() == [-7.0, -1.5]
    assert min_k(TOKENS).tolist() == [-10.0, -1.5]
    assert min_k(TOKENS, 1.0).tolist() == log_likelihood(TOKENS).tolist()
    with pytest.raises(DataError, match="needs a token"):
        min_k(np.full((1, 3), np.nan))


def test_exposure_is_the_rank_in_bits() -> None:
    """Among seven others: the first of eight has 3 bits, the last 0."""
    others = np.arange(7.0)
    assert exposure([9.0, -1.0, 2.5], others).tolist() == [
        3.0,
        0.0,
        pytest.approx(3 - math.log2(5)),
    ]


def test_a_reference_is_taken_off() -> None:
    columns = {"probability": [0.5, 0.5], "reference": [1.0, -1.0]}
    assert SIGNALS["probability"].of(columns).tolist() == [-1.0, 1.0]


def test_the_first_signal_that_columns_make_is_taken_unless_one_is_chosen() -> None:
    assert signal_for({"log_probabilities"}) is SIGNALS["log-likelihood"]
    assert signal_for({"log_probabilities"}, "min-k") is SIGNALS["min-k"]
    with pytest.raises(DataError, match="no signal"):
        signal_for({"score"}, "min-k")
    with pytest.raises(DataError, match="no signal"):
        signal_for({"prediction"})
