"""Kinds of canaries: what each puts into the data on heads, and takes out on tails."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from dpigu.audits import EvidenceError, plan_canaries
from dpigu.audits.canaries.kinds import KINDS, LIT
from dpigu.trainers import Data, Tensors
from dpigu.trainers.data import BYTES

from tests.audits.canaries.test_planting import records

MADE_UP = [name for name, kind in KINDS.items() if not kind.from_data and name != "gradient"]


def images() -> Data:
    data = records(60)
    spec = dataclasses.replace(data.spec, shape=(1, 8, 8), scaling=BYTES)
    x = BYTES.apply(torch.arange(60.0)[:, None, None, None].repeat(1, 1, 8, 8).numpy())
    return dataclasses.replace(
        data, spec=spec, train=Tensors(x, data.train_y), test=Tensors(x[:5], data.test_y[:5])
    )


def bag(data: Data) -> Counter[tuple[bytes, int]]:
    """The training split as a multiset."""
    rows = (x.numpy().tobytes() for x in data.train_x)
    return Counter(zip(rows, data.train_y.tolist(), strict=True))


@pytest.mark.parametrize("kind", MADE_UP)
def test_a_made_up_canary_is_added_on_heads_and_nothing_else_changes(kind: str) -> None:
    data = images()
    plan = plan_canaries(data, 30, kind)
    x, y = plan.records(data)
    expected = bag(data)
    for record, label, coin in zip(x, y.tolist(), plan.coins, strict=True):
        if coin:
            expected[record.numpy().tobytes(), label] += 1
    applied = plan.apply(data)
    assert bag(applied) == expected
    assert len(applied.train_y) == len(data.train_y) + sum(plan.coins)
    assert applied.train_x.dtype == torch.float32 and applied.spec == data.spec


def test_a_record_of_the_data_trains_by_its_coin_alone_and_as_it_is() -> None:
    data = records()
    plan = plan_canaries(data, 30, "records")
    expected = bag(data)
    for i, coin in zip(plan.ids, plan.coins, strict=True):
        assert plan.labels[plan.ids.index(i)] == int(data.train_y[i])
        if not coin:
            expected[data.train_x[i].numpy().tobytes(), int(data.train_y[i])] -= 1
    assert bag(plan.apply(data)) == +expected


def test_crafted_gradients_leave_the_data_as_they_are() -> None:
    data = records()
    assert plan_canaries(data, 30, "gradient").apply(data) is data


def test_made_up_records_are_in_the_declared_range_and_told_apart() -> None:
    data = images()
    for kind in MADE_UP:
        x, _ = plan_canaries(data, 30, kind).records(data)
        assert x.min() >= -1 and x.max() <= 1
        assert len({record.numpy().tobytes() for record in x}) == 30
    blank, _ = plan_canaries(data, 30, "blank").records(data)
    assert all(1 <= int((record > 0).sum()) <= LIT for record in blank)
    noise, _ = plan_canaries(data, 30, "random").records(data)
    assert noise.mean().abs() < 6 * (1 / 3) ** 0.5 / noise.numel() ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_gives_the_same_canaries_each_time_and_sees_other_data(kind: str) -> None:
    data = images()
    plan = plan_canaries(data, 30, kind)
    plan.check(data)
    other = dataclasses.replace(data, train=Tensors(data.train_x.flip(0), data.train_y.flip(0)))
    with pytest.raises(EvidenceError, match="fingerprints"):
        plan.check(other)
    if kind in MADE_UP:
        labels = tuple((label + 1) % data.spec.classes for label in plan.labels)
        with pytest.raises(EvidenceError, match="fingerprints"):
            dataclasses.replace(plan, labels=labels).check(data)
