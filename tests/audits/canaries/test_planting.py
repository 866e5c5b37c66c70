"""Canaries: what trains is decided by fair coins alone, and a plan cannot change afterwards."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpigu.audits import CanaryPlan, EvidenceError, load_plan, plan_canaries
from dpigu.dpcore import DataError, RunError
from dpigu.trainers import Data, DataSpec, Tensors
from dpigu.trainers.data import Scaling
from dpigu.trainers.runs import RunFolder
from hypothesis import given
from hypothesis import strategies as st

from tests.support.run_folders import bare

CLASSES = 7


def records(count: int = 60, declared: int | None = None) -> Data:
    """Records that can be told apart by their value, which is their place."""
    x = torch.arange(float(count))[:, None].repeat(1, 3)
    y = torch.arange(count) % CLASSES
    spec = DataSpec("places", declared or count, CLASSES, (3,), Scaling())
    return Data(spec, Tensors(x, y), Tensors(x[:5] + 0.5, y[:5]))


def pairs(data: Data) -> Counter[tuple[int, int]]:
    """The training split as a multiset of (place, label)."""
    places = data.train_x[:, 0].int().tolist()
    return Counter(zip(places, data.train_y.tolist(), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return bare(tmp_path / "run")


@given(count=st.integers(20, 80), m=st.integers(6, 10))
def test_training_data_lose_every_base_record_and_gain_exactly_the_heads(
    count: int, m: int
) -> None:
    data = records(count)
    plan = plan_canaries(data, m)
    expected = pairs(data)
    for i, label, coin in zip(plan.ids, plan.labels, plan.coins, strict=True):
        del expected[i, int(data.train_y[i])]
        expected[i, label] += coin
    applied = plan.apply(data)
    assert pairs(applied) == +expected
    assert len(applied.train_y) == count - m + sum(plan.coins)


def test_what_is_declared_and_held_out_stays_as_it_was() -> None:
    data = records(60, declared=64)
    before = data.train_x.clone(), data.train_y.clone()
    applied = plan_canaries(data, 20).apply(data)
    assert applied.spec == data.spec
    assert applied.test_x is data.test_x and applied.test_y is data.test_y
    assert applied.train_x.dtype == torch.float32 and applied.train_y.dtype == torch.int64
    assert torch.equal(data.train_x, before[0]) and torch.equal(data.train_y, before[1])


@given(m=st.integers(6, 30))
def test_ids_are_distinct_and_no_canary_keeps_its_label(m: int) -> None:
    data = records()
    plan = plan_canaries(data, m)
    assert len(set(plan.ids)) == m == len(plan.labels) == len(plan.coins)
    for i, label in zip(plan.ids, plan.labels, strict=True):
        assert 0 <= label < CLASSES and label != data.train_y[i]


def far_from(count: int, trials: int, probability: float) -> bool:
    """Whether a count lies 6 standard deviations off: under 2e-9 for a true binomial."""
    spread = math.sqrt(trials * probability * (1 - probability))
    return abs(count - trials * probability) > 6 * spread


def test_coins_labels_and_places_are_uniform() -> None:
    """20 plans of 1000; 2 + 6 + 10 tests at 6 sigma: a false alarm in under 1e-7 of all runs."""
    data = records(2000)
    coins: list[int] = []
    agree: list[int] = []
    shifts: Counter[int] = Counter()
    tenths: Counter[int] = Counter()
    for _ in range(20):
        plan = plan_canaries(data, 1000)
        coins += plan.coins
        agree += [a == b for a, b in zip(plan.coins, plan.coins[1:], strict=False)]
        bases = (int(data.train_y[i]) for i in plan.ids)
        shifts.update((y - base) % CLASSES for y, base in zip(plan.labels, bases, strict=True))
        tenths.update(i // 200 for i in plan.ids)
    n = len(coins)
    assert not far_from(sum(coins), n, 1 / 2)
    assert not far_from(sum(agree), len(agree), 1 / 2)
    assert set(shifts) == set(range(1, CLASSES))
    assert not any(far_from(shifts[s], n, 1 / (CLASSES - 1)) for s in shifts)
    assert not any(far_from(tenths[t], n, 1 / 10) for t in range(10))


def test_that_check_sees_a_coin_that_lands_heads_53_times_in_100() -> None:
    assert far_from(10_600, 20_000, 1 / 2)


def test_no_seed_brings_the_same_coins_back() -> None:
    """Equal by chance with probability 2⁻¹⁰⁰."""
    data, plans = records(400), []
    for _ in range(2):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        plans.append(plan_canaries(data, 100))
    assert plans[0].coins != plans[1].coins
    assert plans[0].key != plans[1].key


@pytest.mark.parametrize(
    "damage",
    [
        lambda x, y, i: (x.index_fill(0, torch.tensor(i), -1.0), y),
        lambda x, y, i: (x, y.index_fill(0, torch.tensor(i), (int(y[i]) + 1) % CLASSES)),
        lambda x, y, i: (x.roll(1, 0), y.roll(1)),
        lambda x, y, i: (x.flip(0), y.flip(0)),
        lambda x, y, i: (x[:-1], y[:-1]),
        lambda x, y, i: (torch.cat([x, x[:1]]), torch.cat([y, y[:1]])),
    ],
    ids=["value", "label", "shifted", "reversed", "removed", "added"],
)
@pytest.mark.parametrize("whose", ["a canary's", "another"])
def test_fingerprints_see_changed_data(damage: Any, whose: str) -> None:
    data = records()
    plan = plan_canaries(data, 20)
    others = next(i for i in range(60) if i not in plan.ids)
    x, y = damage(data.train_x, data.train_y, plan.ids[0] if whose == "a canary's" else others)
    changed = dataclasses.replace(data, train=Tensors(x, y))
    plan.check(data)
    with pytest.raises(EvidenceError, match="does not match the fingerprints"):
        plan.check(changed)
    with pytest.raises(EvidenceError, match="does not match the fingerprints"):
        plan.apply(changed)


@pytest.mark.parametrize("damage", [torch.Tensor.double, lambda x: x[:, :2]], ids=["type", "shape"])
def test_inputs_of_another_type_or_shape_are_no_data(damage: Any) -> None:
    data = records()
    with pytest.raises(DataError, match=r"differ in type|shape of a record"):
        dataclasses.replace(data, train=Tensors(damage(data.train_x), data.train_y))


def test_a_canarys_fingerprint_holds_its_place_and_the_label_given() -> None:
    data = records()
    plan = plan_canaries(data, 20)
    elsewhere = tuple(i for i in range(60) if i not in plan.ids)[:20]
    other = next(y for y in range(CLASSES) if y != plan.labels[0])
    for change in ({"ids": elsewhere}, {"labels": (other, *plan.labels[1:])}):
        with pytest.raises(EvidenceError, match="fingerprints"):
            dataclasses.replace(plan, **change).check(data)  # type: ignore[arg-type]  # a table


def test_fingerprints_are_keyed_so_that_nobody_can_test_membership_with_a_hash() -> None:
    data = records()
    one, two = plan_canaries(data, 30), plan_canaries(data, 30)
    assert not {*one.fingerprints, one.data_fingerprint} & {*two.fingerprints, two.data_fingerprint}
    plain = hashlib.sha256(data.train_x[one.ids[0]].numpy().tobytes()).hexdigest()
    assert plain not in one.fingerprints


def test_a_plan_comes_back_from_its_folder(folder: RunFolder) -> None:
    plan = plan_canaries(records(), 20, confidence=0.9)
    plan.save(folder)
    assert load_plan(folder) == plan


def test_a_plan_is_private_and_its_commitment_public(folder: RunFolder) -> None:
    plan = plan_canaries(records(), 20)
    plan.save(folder)
    mode = (folder.private / "audit-plan.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    public = {path.name: path.read_text() for path in folder.public.iterdir()}
    assert json.loads(public["audit-commitment.json"])["commitment"] == plan.commitment
    secrets = (plan.key, plan.nonce, plan.data_fingerprint, *plan.fingerprints)
    assert not any(secret in text for secret in secrets for text in public.values())


def test_a_plan_prints_no_coin_no_place_and_no_key() -> None:
    shown = repr(plan_canaries(records(), 20))
    private = ("ids", "labels", "coins", "fingerprints", "data_fingerprint", "key", "nonce")
    assert not any(f"{name}=" in shown for name in private)


def test_a_commitment_hides_behind_its_nonce_and_binds_every_field() -> None:
    plan = plan_canaries(records(), 20)
    others = {
        dataclasses.replace(plan, nonce="0" * 64).commitment,
        dataclasses.replace(plan, coins=(1 - plan.coins[0], *plan.coins[1:])).commitment,
        dataclasses.replace(plan, confidence=0.5).commitment,
    }
    assert len(others | {plan.commitment}) == 4


def _flip(value: Any) -> Any:
    """A value of the same kind that differs."""
    if isinstance(value, list):
        return [_flip(value[0]), *value[1:]]
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    return 1 - value


FIELDS = [field.name for field in dataclasses.fields(CanaryPlan)]


@pytest.mark.parametrize("name", FIELDS)
def test_a_plan_changed_after_training_is_found_out(folder: RunFolder, name: str) -> None:
    plan_canaries(records(), 20).save(folder)
    path = folder.private / "audit-plan.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {name: _flip(stored[name])}))
    with pytest.raises(EvidenceError, match="not the one that was committed to"):
        load_plan(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"nonce": 1}', "\x00", '{"coins": NaN}'])
def test_a_damaged_plan_or_commitment_supports_no_verdict(folder: RunFolder, text: str) -> None:
    plan_canaries(records(), 20).save(folder)
    for path in (folder.private / "audit-plan.json", folder.public / "audit-commitment.json"):
        whole = path.read_text()
        path.write_text(text)
        with pytest.raises(EvidenceError):
            load_plan(folder)
        path.write_text(whole)
    load_plan(folder)


def test_a_new_plan_with_its_own_commitment_is_found_out_by_the_journal(
    folder: RunFolder, tmp_path: Path
) -> None:
    plan_canaries(records(), 20).save(folder)
    folder.note_privately("times.jsonl", {"step": 0, "seconds": 0.1})
    late = bare(tmp_path / "late")
    plan_canaries(records(), 20).save(late)
    for name in ("private/audit-plan.json", "public/audit-commitment.json"):
        (folder.path / name).write_text((late.path / name).read_text())
    with pytest.raises(EvidenceError, match="made before training"):
        load_plan(folder)


def test_a_plan_whose_commitment_comes_after_a_step_is_found_out(folder: RunFolder) -> None:
    plan_canaries(records(), 20).save(folder)
    journal = folder.private / "times.jsonl"
    journal.write_text('{"step": 0, "seconds": 0.1}\n' + journal.read_text())
    with pytest.raises(EvidenceError, match="made before training"):
        load_plan(folder)
    journal.unlink()
    with pytest.raises(EvidenceError, match="made before training"):
        load_plan(folder)


def test_no_plan_is_saved_after_a_step_or_over_another(folder: RunFolder) -> None:
    plan = plan_canaries(records(), 20)
    (folder.public / "ledger.jsonl").write_text("a head\n")
    with pytest.raises(RunError, match="before the first step"):
        plan.save(folder)
    (folder.public / "ledger.jsonl").unlink()
    plan.save(folder)
    with pytest.raises(RunError, match="before the first step"):
        plan.save(folder)


def test_a_run_without_canaries_says_how_to_get_them(folder: RunFolder) -> None:
    with pytest.raises(EvidenceError, match="Train a run with canaries"):
        load_plan(folder)


def test_too_few_canaries_for_any_verdict_are_refused() -> None:
    """Six perfect guesses have p = 1/64 at ε = 0, five have 1/32: two tests share the error."""
    assert len(plan_canaries(records(), 6).coins) == 6
    with pytest.raises(DataError, match=r"too few canaries.*6 or more at 95%"):
        plan_canaries(records(), 5)
    with pytest.raises(DataError, match="8 or more at 99%"):
        plan_canaries(records(), 7, confidence=0.99)


def test_too_many_canaries_are_refused_by_the_declared_number() -> None:
    assert len(plan_canaries(records(60), 30).coins) == 30
    with pytest.raises(DataError, match=r"half of the 60 declared records.*30 or fewer"):
        plan_canaries(records(60), 31)
    with pytest.raises(DataError, match="fewer records than canaries"):
        plan_canaries(records(20, declared=60), 25)


def test_an_unknown_kind_or_confidence_is_refused() -> None:
    with pytest.raises(DataError, match="mislabelled"):
        plan_canaries(records(), 20, kind="tame")
    with pytest.raises(DataError, match="confidence"):
        plan_canaries(records(), 20, confidence=1.0)


def test_a_plan_that_is_not_sound_cannot_be_made() -> None:
    plan = plan_canaries(records(), 20)
    for change in (
        {"ids": (plan.ids[0], *plan.ids[:-1])},
        {"coins": (2, *plan.coins[1:])},
        {"coins": plan.coins[1:]},
        {"labels": plan.labels[1:]},
        {"score": "guess"},
        {"kind": "tame"},
    ):
        with pytest.raises(EvidenceError, match=next(iter(change))):
            dataclasses.replace(plan, **change)  # type: ignore[arg-type]  # a table of changes
