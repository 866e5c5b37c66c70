"""One record moves a step's sum by at most the bound, on every model of the table.

The law is about a coupling: places, batch and every draw inside a record are the same in both
runs, and one record's slot stands empty in the second. Then nobody else's row moves by a bit.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpigu.dpcore import DpiguError, Phase, Pipeline, Plan
from dpigu.dpcore import randomness as system
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers import TASKS, Data, DataSpec, Settings, Tensors
from dpigu.trainers.data import Scaling
from dpigu.trainers.engines.guards import randomness
from dpigu.trainers.lifecycle.prepare import PreparedRun, prepare
from dpigu.trainers.phases import slots
from dpigu.trainers.phases.phase import RunningPhase
from dpigu.trainers.phases.reading import Records
from dpigu.trainers.phases.slots import Slots
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.laws.records.generated_models import generated
from tests.laws.records.mixing_models import CASES, CLASSES, WIDTH, Case, kinked

PRESENT, DECLARED, BOUND = 13, 17, 0.5
GRID = 2.0**-20
"""Of the bound: more than the grid of the release, 2⁻²⁶√K, and the margin for summation."""
ENGINES = ("auto", "materialising", "one-by-one")


class NoNoise:
    """Words whose normal draw rounds to zero, so that the sum itself is seen, on its grid."""

    private = False

    def words(self, count: int) -> NDArray[np.uint64]:
        return np.full(count, 2**63 - 1, dtype=np.uint64)


@contextmanager
def coupled(key: int = 0) -> Iterator[None]:
    """The operating system's draws by their order alone: the same in two runs."""
    seeds = itertools.count(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(randomness, "system_seed", lambda: next(seeds) * 0x9E3779B97F4A7C15 % 2**64)
        bits = np.random.PCG64(key)
        for module in (slots, system):
            patch.setattr(module, "system_words", bits.random_raw)
        yield


def records(case: Case, seed: int = 0) -> Data:
    """A few records, some far out; the first one farthest."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(PRESENT, WIDTH, generator=draw)
    x[0], x[1] = 1000.0, -5.0
    y = torch.randint(CLASSES, (PRESENT,), generator=draw)
    classes = CLASSES
    if case.regression:
        classes, y[0] = 41, 40
    spec = DataSpec("records", DECLARED, classes, (WIDTH,), Scaling(), TASKS["other"])
    return Data(spec, Tensors(x, y), Tensors(x[:2] + 1, y[:2]))


def prepared(case: Case, data: Data, engine: str, microbatch: int, rate: float) -> PreparedRun:
    """A run of one phase whose clipper has the bound."""
    torch.manual_seed(3)
    model, loss = case.build()
    pipeline = Pipeline(clipper=Flat(bound=BOUND), noiser=Gaussian())
    settings = Settings(
        noise_multiplier=1.0, rate=rate, engine=engine, physical_batch=microbatch, delta=1e-5
    )
    return prepare(Plan((Phase("main", pipeline, steps=3),)), data, model, settings, loss, {})


def total(prepared: PreparedRun, at: Slots, x: Tensor, y: Tensor, key: int) -> Tensor:
    """The sum of a step without noise, on records in these slots."""
    data = replace(prepared.data, train=Tensors(x, y))
    records = Records(data, prepared.device, prepared.traced.stand_in())
    prepared = replace(prepared, records=records)
    running = RunningPhase(prepared, prepared.plan.phases[0], {}, NoNoise(), None, at)
    parameters = {n: p for n, p in prepared.model.named_parameters() if p.requires_grad}
    prepared.model.train()
    with coupled(key):
        release, _ = running.step(running.begin(parameters), 0, parameters)
    return release.noised.value * prepared.sampler.expected_batch


def moved(prepared: PreparedRun, drop: int) -> float:
    """How far one record moves the sum of a step, in units of the bound."""
    x, y = prepared.data.train_x, prepared.data.train_y
    keep = [i for i in range(len(x)) if i != drop]
    with coupled(drop):
        places = Slots.drawn(prepared.sampler.records, len(x))
    there = total(prepared, places, x, y, key=drop)
    gone = total(prepared, places.without(drop), x[keep], y[keep], key=drop)
    assert bool(there.isfinite().all()) and bool(gone.isfinite().all())
    return float((there - gone).norm()) / BOUND


def law_one_record_moves_the_sum_by_at_most_the_bound(
    case: Case, engine: str, microbatch: int, rate: float, drop: int
) -> None:
    """‖Σ with the record − Σ without it‖ ≤ C, but for what the margin pays for."""
    run = prepared(case, records(case), engine, microbatch, rate)
    assert moved(run, drop) <= 1 + GRID


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_every_model_of_the_table_keeps_records_apart_or_is_refused(name: str, engine: str) -> None:
    case, ends = CASES[name], set()
    if case.ends == "declared":
        assert prepared(case, records(case), engine, 4, 0.9).traced.declared
        return
    for microbatch, drop in ((4, 0), (7, 5)):
        try:
            law_one_record_moves_the_sum_by_at_most_the_bound(case, engine, microbatch, 0.9, drop)
        except DpiguError:
            ends.add("refused")
        else:
            ends.add("apart")
    right = {case.ends}
    if engine == "materialising" and case.ends == "apart":
        right |= {"refused"}  # what vmap cannot map
    assert len(ends) == 1 and ends <= right


@pytest.mark.parametrize("engine", ENGINES)
@given(case=generated(), microbatch=st.integers(1, 9), drop=st.integers(0, PRESENT - 1))
def test_generated_models_keep_records_apart_or_are_refused(
    case: Case, engine: str, microbatch: int, drop: int
) -> None:
    """What keeps something between calls is always refused; the rest only by some engines."""
    try:
        law_one_record_moves_the_sum_by_at_most_the_bound(case, engine, microbatch, 0.9, drop)
    except DpiguError:
        return
    assert case.ends == "apart"


def kinks(seed: int) -> tuple[Case, Data]:
    """Pre-activations within a rounding of a ReLU's kink, and a steep layer after them."""
    draw = torch.Generator().manual_seed(seed)
    case = Case(kinked)
    torch.manual_seed(3)
    net = kinked()[0]
    weight = net[0].weight.detach().double()
    x = torch.randn(60, WIDTH, generator=draw, dtype=torch.float64) * 100
    first = weight[: WIDTH - 1]
    x = (x - (x @ first.T) @ torch.linalg.inv(first @ first.T) @ first).float()
    y = torch.randint(CLASSES, (60,), generator=draw)
    spec = DataSpec("kinks", 70, CLASSES, (WIDTH,), Scaling())
    return case, Data(spec, Tensors(x, y), Tensors(x[:2] + 1, y[:2]))


@pytest.mark.parametrize("engine", ("ghost", *ENGINES))
@pytest.mark.parametrize("microbatch", (8, 17, 32))
def test_at_kinks_too(engine: str, microbatch: int) -> None:
    """Rows of 17 numbers, which do not lie aligned: the last bits depend on the place."""
    for seed in range(3):
        case, data = kinks(seed)
        assert moved(prepared(case, data, engine, microbatch, 1.0), drop=2) <= 1 + GRID


def law_a_state_is_refused(name: str, engine: str) -> None:
    """A model that keeps something is stopped, at the latest in its first step."""
    case = CASES[name]
    data = records(case)
    try:
        run = prepared(case, data, engine, 4, 0.9)
        total(run, Slots.drawn(DECLARED, PRESENT), data.train_x, data.train_y, key=0)
    except DpiguError:
        return
    raise AssertionError("nobody noticed")


def law_nobody_knows_the_masks(engine: str) -> None:
    """After the same seed of the user's the masks differ, and the user's own draws do not."""
    case = CASES["dropout"]
    data = records(case)
    run = prepared(case, data, engine, 20, 1.0)
    places = Slots.drawn(DECLARED, PRESENT)
    sums, after = [], []
    for _ in range(2):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        running = RunningPhase(run, run.plan.phases[0], {}, NoNoise(), None, places)
        parameters = dict(run.model.named_parameters())
        run.model.train()
        release, _ = running.step(running.begin(parameters), 0, parameters)
        sums.append(release.noised.value)
        after.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert not torch.equal(*sums)
    assert after[0] == after[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_nobody_knows_the_masks(engine: str) -> None:
    law_nobody_knows_the_masks(engine)


def law_the_size_of_a_batch_has_one_law(present: int) -> list[int]:
    """The same draws give the same sizes and microbatches whoever is present."""
    sizes: list[list[int]] = []
    for who in (DECLARED, present):
        with coupled(7):
            places = Slots.drawn(DECLARED, who)
            sampler = Settings(rate=0.4, noise_multiplier=1.0).sampler(DECLARED)
            sampled = [list(places.sample(sampler, 5, torch.device("cpu"))) for _ in range(20)]
        sizes.append([len(pieces) for pieces in sampled])
        assert all(len(at) == 5 for pieces in sampled for at, _ in pieces)
    assert sizes[0] == sizes[1]
    return sizes[0]


@pytest.mark.parametrize("present", (0, 1, 9, DECLARED))
def test_the_size_of_a_batch_has_the_same_law_for_every_data_set(present: int) -> None:
    assert len(set(law_the_size_of_a_batch_has_one_law(present))) > 1
