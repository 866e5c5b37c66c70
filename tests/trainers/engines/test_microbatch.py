"""Microbatches come from public shapes and stay within their budget."""

from __future__ import annotations

import math

import pytest
import torch
from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.mechanisms import PRESETS, Flat, Gaussian, adadpigu_paper
from dpigu.mechanisms.views import ShiftFlip
from dpigu.trainers.engines import explain
from dpigu.trainers.engines.layers import costs
from dpigu.trainers.engines.microbatch import (
    FAST,
    MATRICES,
    WHOLE,
    Budget,
    activations,
    automatic,
    evened,
)
from dpigu.trainers.tasks.losses import cross_entropy
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

LABELS = torch.zeros(2, dtype=torch.int64)

pytestmark = pytest.mark.numerical


@given(
    numbers=st.integers(1, 10**10),
    budget=st.sampled_from((FAST, WHOLE, Budget(memory=10**6, cache=10**5, least=4, most=64))),
)
def test_a_microbatch_stays_within_its_budget(numbers: int, budget: Budget) -> None:
    """n·numbers ≤ memory unless n = 1, n ≤ most, and one more record would pass a limit."""
    n = budget.records(numbers)
    assert 1 <= n <= budget.most
    assert n == 1 or n * numbers <= budget.memory
    assert n == budget.most or (n + 1) * numbers > budget.cache or (n + 1) * numbers > budget.memory
    assert n >= min(budget.least, max(1, budget.memory // numbers))


@given(records=st.integers(1, 5000), batch=st.floats(1, 10_000))
def test_an_even_microbatch_is_no_larger_and_wastes_little(records: int, batch: float) -> None:
    """Two pieces, or no more than before; the padding of a usual batch is below one a piece."""
    n, usual = evened(records, batch), batch + 2 * math.sqrt(batch)
    assert 1 <= n <= records
    pieces = math.ceil(usual / n)
    assert pieces <= max(2, math.ceil(usual / records))
    assert pieces * n - usual < pieces + 1


def test_activations_are_what_the_layers_put_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5))
    assert activations(model, torch.zeros(1, 1, 8, 8)) == 64 + 72 + 72 + 72 + 5
    table = nn.Sequential(nn.Embedding(4, 3), nn.Flatten())
    assert activations(table, torch.zeros(1, 6, dtype=torch.int64)) == 6 + 18 + 18


def test_rows_count_only_where_they_are_formed() -> None:
    model = nn.Sequential(nn.Linear(1000, 1000))
    x_1, size = torch.zeros(1, 1000), 1_001_000
    taken = {fast: automatic(model, x_1, size, fast=fast) for fast in (True, False)}
    assert taken[True] == FAST.most
    assert taken[False] == WHOLE.records(2000 + MATRICES * size) < taken[True]


def test_the_choice_is_explained_for_every_phase_and_parameter() -> None:
    """The fast engine's ways in each phase of a preset; the other engine's reason where it runs."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 5))
    x = torch.zeros(2, 1, 8, 8)
    for said in explain(
        PRESETS["adadpigu"].plan(10),
        model,
        cross_entropy,
        x,
        torch.zeros(len(x), dtype=torch.int64),
        0,
        "auto",
    ):
        assert said.engine == "ghost"
        ways = {name: choice.split(":")[0] for name, choice in said.choices.items()}
        assert ways["3.weight"] == "ghost" and ways["3.bias"] == "form"
        assert set(ways) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    plan = PRESETS["adadpigu-paper"].plan(10)
    (one, *_) = explain(plan, model, cross_entropy, x, LABELS, 0, "materialising")
    assert (one.engine, one.choices) == ("materialising", {})


def test_a_map_that_is_not_affine_is_named() -> None:
    model, x = nn.Linear(4, 3), torch.zeros(2, 4)
    plan = adadpigu_paper(10, row_ratio=0.5)
    *_, main = explain(plan, model, cross_entropy, x, LABELS, 0, "auto")
    assert main.engine == "materialising" and "RowTopK" in main.reason


def test_several_views_of_a_record_stay_with_the_fast_engine() -> None:
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), views=ShiftFlip(count=3))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    plan, x = Plan((Phase("main", pipeline, 2),)), torch.zeros(2, 1, 8, 8)
    (said,) = explain(plan, model, cross_entropy, x, LABELS, 0, "auto")
    assert said.engine == "ghost" and "3 positions" in said.choices["1.weight"]


def test_a_device_forms_many_records_at_a_time_and_weighs_float64_by_its_units() -> None:
    """One record a block, as a processor takes a wide layer, would be a launch a record there."""
    wide = 590_000  # a convolution of 256 × 256 channels
    assert max(1, costs.CPU.stream // wide) == 1
    for device in (costs.DATA_CENTRE, costs.DATA_CENTRE_8, costs.CONSUMER):
        assert device.stream // wide > 100 and device.form > costs.CPU.form
    assert (costs.DATA_CENTRE.double, costs.DATA_CENTRE_8.double) == (1.0, 1.0)
    assert 60 < costs.CONSUMER.double < 70
    assert costs.costs_of(torch.device("cpu")) is costs.CPU
