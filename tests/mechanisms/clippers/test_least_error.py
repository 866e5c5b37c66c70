"""DC-SGD's bound: the histogram that it learns from, and that it has the least error."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dpigu.dpcore import GrammarError, Pipeline, Space, View
from dpigu.mechanisms import Flat, Gaussian, LeastError, NormHistogram
from dpigu.mechanisms.clippers.least_error import least_error
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, minted, release_of

ONE = Space.flat("one", 1)
SHARES = st.lists(st.floats(-0.1, 1.0), min_size=2, max_size=9)
CHOSEN = {"shares": SHARES, "noise": st.floats(1e-4, 10.0), "bound": st.floats(0.01, 100.0)}


@given(st.floats(1e-3, 1e3), st.floats(0, 20), st.integers(2, 30))
def test_a_record_is_in_the_bin_of_its_norm_and_in_no_other(bound, times, bins):
    query, clipper = NormHistogram(bins=bins), Flat(bound=bound)
    norms_G = torch.tensor([times * bound], dtype=torch.float64)
    q_K = query.vector({}, norms_G, {"clipper": View(clipper, {})})
    at = int(q_K.argmax())
    assert len(q_K) == query.size == bins and float(q_K.sum()) == 1.0 == float(q_K.max())
    assert at * 4 / bins <= times * (1 + 1e-12) and (
        times <= (at + 1) * 4 / bins + 1e-9 or at == bins - 1
    )


def law_the_bound_has_the_least_error(shares, noise, bound):
    """Of all edges of bins: c²·noise + Σ_k h_k (n_k − c)₊², in units of the bound so far."""
    count = len(shares)
    edges = [4 * (k + 1) / count for k in range(count)]
    middle = [4 * (k + 0.5) / count for k in range(count)]

    def error(c):
        cut = sum(h * max(n - c, 0.0) ** 2 for h, n in zip(shares, middle, strict=True))
        return c * c * noise + cut

    share_K = torch.tensor(shares, dtype=torch.float64)
    variance = torch.tensor([noise * bound**2], dtype=torch.float64)
    stage = LeastError(bound=bound, rate=1.0)
    release = release_of(torch.zeros(1), variance)
    answer = minted().derive(share_K, torch.zeros_like(share_K))
    state = stage.init(context(ONE), {})
    after = stage.update(state, replace(release, queries={"norm-histogram": answer}), {})
    reached = float(stage.joint_bound(after)) / bound
    assert min(abs(reached - c) for c in edges) < 1e-9
    assert error(reached) <= min(map(error, edges)) + 1e-9


test_the_bound_has_the_least_error = given(**CHOSEN)(law_the_bound_has_the_least_error)


def test_more_noise_asks_for_a_smaller_bound_and_longer_rows_for_a_larger():
    short, long = torch.zeros(20).double(), torch.zeros(20).double()
    short[3], long[12] = 1.0, 1.0
    noisy, quiet = torch.tensor(4.0).double(), torch.tensor(0.04).double()
    assert least_error(long, noisy) < least_error(long, quiet)
    assert least_error(short, quiet) < least_error(long, quiet)


def test_a_bound_moves_by_a_share_of_the_way_and_stays_in_its_range():
    stage, state = LeastError(bound=1.0, rate=0.5, limit=3.0), {"bound": torch.tensor(1.0).double()}
    share_K = torch.tensor([0.0, 1.0], dtype=torch.float64)
    answer = minted().derive(share_K, torch.zeros_like(share_K))
    quiet = replace(release_of(torch.zeros(1)), queries={"norm-histogram": answer})
    once = stage.update(state, quiet, {})
    assert float(once["bound"]) == pytest.approx(
        4.0**0.5 if least_error(*_quiet(share_K)) == 4 else 2.0**0.5
    )
    for _ in range(20):
        state = stage.update(state, quiet, {})
    assert 1 / 3 <= float(state["bound"]) <= 3.0


def _quiet(share_K):
    return share_K, torch.tensor(0.0, dtype=torch.float64)


def test_without_its_query_it_is_refused():
    with pytest.raises(GrammarError, match="learns from a query that is not in the pipeline"):
        Pipeline(clipper=LeastError(), noiser=Gaussian())


@pytest.mark.parametrize("option", ["bound", "rate", "limit"])
def test_options_out_of_range_are_named(option):
    with pytest.raises(GrammarError, match=rf"least-error\.{option}"):
        LeastError(**{option: 0.0})
