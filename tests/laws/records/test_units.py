"""Privacy by person passes the laws of privacy by record, and its mutants do not.

One person's records leave, all of them: the sum of a step moves by at most the bound, on every
engine, and nobody else's row moves by a bit. The coupling is that of `test_records_apart`; which
of a person's records are taken is, in both runs, the same function of how many that person has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpigu.dpcore import DataError, Phase, Pipeline, Plan
from dpigu.dpcore.randomness import system_words
from dpigu.mechanisms import Flat, Gaussian, ShiftFlip
from dpigu.trainers import Data, Settings, Tensors, data_from
from dpigu.trainers.data import units
from dpigu.trainers.data.units import ByUnit, UnitIds
from dpigu.trainers.lifecycle.prepare import PreparedRun, _alike, prepare
from dpigu.trainers.phases.phase import RunningPhase
from dpigu.trainers.phases.reading import Records
from dpigu.trainers.phases.slots import Slots
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tests.laws.records.test_records_apart import BOUND, ENGINES, GRID, NoNoise, coupled

OWNERS = np.array([0, 3, 3, 1, 0, 3, 2, 3, 3, 4, 1, 3, 0, 3])
"""Person 3 has seven records, person 2 and person 4 one each."""
DECLARED, MOST = 7, 3


def people(reduce: str = "mean") -> Data:
    """Records of five persons, those of the third far out."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(len(OWNERS), 1, 4, 4, generator=draw)
    x[OWNERS == 3] *= 100.0
    y = torch.randint(3, (len(OWNERS),), generator=draw)
    return data_from(
        train=(x, y),
        test=(x[:2] + 1, y[:2]),
        records=DECLARED,
        classes=3,
        units=OWNERS,
        records_per_unit=MOST,
        unit_rows=reduce,
    )


def prepared(data: Data, engine: str = "auto", views: bool = False) -> PreparedRun:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    pipeline = Pipeline(
        clipper=Flat(bound=BOUND),
        noiser=Gaussian(),
        views=ShiftFlip(count=2) if views else None,
    )
    settings = Settings(noise_multiplier=1.0, rate=0.9, engine=engine, physical_batch=3, delta=1e-5)
    return prepare(Plan((Phase("main", pipeline, steps=3),)), data, model, settings, None, {})


def fixed(count: int) -> NDArray[np.uint64]:
    """Words that depend on how many are asked for, and on nothing else."""
    return np.random.default_rng(count).permutation(count).astype(np.uint64)


@contextmanager
def same_choice() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "system_words", fixed)
        yield


def total(run: PreparedRun, data: Data, at: Slots) -> Tensor:
    """The sum of a step without noise, of these people in these slots."""
    stand_in = tree_map(lambda v_1: _alike(v_1, data.spec.unit), run.traced.stand_in())
    run = replace(run, records=Records(data, run.device, stand_in))
    running = RunningPhase(run, run.plan.phases[0], {}, NoNoise(), None, at)
    parameters = {n: p for n, p in run.model.named_parameters() if p.requires_grad}
    with coupled(5), same_choice():
        release, _ = running.step(running.begin(parameters), 0, parameters)
    return release.noised.value * run.sampler.expected_batch


def without(data: Data, person: int) -> Data:
    assert data.units is not None
    stays = torch.from_numpy(data.units.train_N != person)
    train = Tensors(data.train_x[stays], data.train_y[stays])
    return replace(data, train=train, units=UnitIds(data.units.train_N[stays.numpy()]))


def moved(run: PreparedRun, data: Data, person: int) -> float:
    """How far one person moves the sum of a step, in units of the bound."""
    with coupled(1):
        at = Slots.drawn(DECLARED, len(data.protected))
    gone = total(run, without(data, person), at.without(person))
    return float((total(run, data, at) - gone).norm()) / BOUND


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_one_person_moves_the_sum_by_at_most_the_bound(reduce: str, engine: str) -> None:
    data = people(reduce)
    run = prepared(data, engine)
    assert max(moved(run, data, person) for person in (0, 3)) <= 1 + GRID


def test_so_does_a_person_whose_records_have_views() -> None:
    data = people()
    assert moved(prepared(data, views=True), data, 3) <= 1 + GRID


def test_every_engine_has_the_row_of_the_mean_loss() -> None:
    """Three engines, one sum of the same five rows."""
    data = people()
    at = Slots(np.array([0, 1, 2, 3, 4, -1, -1]))
    sums = [total(prepared(data, engine), data, at) for engine in ENGINES]
    assert all(torch.allclose(sums[0], other, atol=1e-5) for other in sums[1:])


def test_the_records_of_a_unit_are_its_own_and_at_most_the_declared_number() -> None:
    source = people().protected
    assert isinstance(source, ByUnit) and len(source) == 5
    own = [set(source.records_of(unit)) for unit in range(5)]
    assert own[3] == set(np.flatnonzero(OWNERS == 3)) and len(set().union(*own)) == len(OWNERS)
    x_UK, (_, w_UK) = source.read(np.array([3, 2, 1]))
    assert x_UK.shape == (3, MOST, 1, 4, 4)
    assert w_UK.tolist() == [[1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [1.5, 1.5, 0.0]]
    summed = people("sum").protected.read(np.array([1]))[1][1]
    assert summed.tolist() == [[3.0, 3.0, 0.0]]


def test_every_choice_of_a_persons_records_is_equally_likely() -> None:
    """Of 3 out of 5, each record in 3/5 of 2,000 draws, within five standard deviations."""
    counts = np.zeros(5)
    for _ in range(2_000):
        counts[units.chosen(np.arange(5), 3)] += 1
    assert np.abs(counts - 1_200).max() < 5 * (2_000 * 0.6 * 0.4) ** 0.5


def test_the_size_of_a_batch_is_of_the_declared_units() -> None:
    run = prepared(people())
    assert (len(run.slots.record_N), run.slots.present) == (DECLARED, 5)
    assert run.sampler.records == DECLARED


def test_a_persons_other_records_that_stay_are_seen() -> None:
    """Mutant: only the first record of a person leaves with them, the others stay in."""
    data = people()
    run, at = prepared(data), Slots(np.array([0, 1, 2, 3, 4, -1, -1]))
    assert data.units is not None
    owner_N = data.units.train_N.copy()
    owner_N[np.flatnonzero(owner_N == 3)[1:]] = 4
    gone = without(replace(data, units=UnitIds(owner_N)), 3)
    apart = total(run, data, at) - total(run, gone, at.without(3))
    assert float(apart.norm()) / BOUND > 1 + GRID


def test_clipping_each_record_is_seen() -> None:
    """Mutant: a person's records as so many units: all of them leave, and the sum moves by more."""
    data = people()
    assert data.units is not None and data.spec.unit is not None
    many = replace(data, units=UnitIds(np.arange(len(OWNERS))), spec=replace(data.spec, records=20))
    run, at = prepared(many), Slots(np.r_[np.arange(len(OWNERS)), np.full(6, -1)])
    gone = Slots(np.where(np.isin(at.record_N, np.flatnonzero(OWNERS == 3)), -1, at.record_N))
    assert float((total(run, many, at) - total(run, many, gone)).norm()) / BOUND > 1 + GRID


def test_a_choice_that_depends_on_others_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: which of a person's records are taken depends on how many persons there are."""
    right = ByUnit.records_of

    def turned(self: ByUnit, unit: int) -> NDArray[np.int64]:
        return np.roll(right(self, unit), 3 * len(self))

    monkeypatch.setattr(ByUnit, "records_of", turned)
    data = people()
    run = prepared(data)
    assert max(moved(run, data, person) for person in (0, 1, 2, 4)) > 1 + GRID


def test_more_records_than_declared_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: all of a person's records go in: the unit has no place for them."""
    monkeypatch.setattr(units, "chosen", lambda records, most: records)
    with pytest.raises(ValueError, match="broadcast"):
        people().protected.read(np.array([3]))


def test_a_person_in_both_splits_is_refused() -> None:
    data = people()
    assert data.units is not None
    both = replace(data, units=replace(data.units, test_M=np.array([9, 4])))
    with pytest.raises(DataError, match="a unit has records in the training and"):
        prepared(both)
    prepared(replace(data, units=replace(data.units, test_M=np.array([9, 8]))))


@pytest.mark.parametrize(
    "declared",
    [
        {"units": OWNERS},
        {"records_per_unit": 2},
        {"units": OWNERS[1:], "records_per_unit": 2},
        {"units": OWNERS, "records_per_unit": 0},
        {"units": [None] * 14, "records_per_unit": 2},
    ],
)
def test_half_a_declaration_is_refused(declared: dict[str, object]) -> None:
    x, y = people().train_x, people().train_y
    with pytest.raises(DataError):
        data_from(train=(x, y), test=(x[:2], y[:2]), records=DECLARED, classes=3, **declared)


def test_words_come_from_the_operating_system() -> None:
    assert units.system_words is system_words
