"""Runs of many ranks: the run of one process given the same noise, in one folder and one ledger."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from dpigu.dpcore import Phase, Pipeline, Plan, SelectiveUpdate
from dpigu.mechanisms import Flat, Gaussian, LossChange, Threshold, training_accuracy
from dpigu.trainers.calibration import epsilon_of_ledger
from dpigu.trainers.runs import RunFolder

from tests.support.laws.data import RECORDS, settings_of
from tests.support.rank_groups import RankGroup
from tests.trainers.distributed import cases

pytestmark = pytest.mark.numerical

EVERYONE = dataclasses.replace(settings_of(), expected_batch=None, rate=1.0)


def looked_at(steps: int) -> Plan:
    """Two phases, the second with a look at every update, and a measured accuracy."""
    look = SelectiveUpdate(
        Pipeline(Flat(bound=1.0), Gaussian(noise_multiplier=4.0), statistic=LossChange()),
        Threshold(below=0.0),
    )
    pipeline = Pipeline(Flat(bound=1.0), Gaussian())
    phases = (Phase("first", pipeline, 2), Phase("main", pipeline, steps, selective_update=look))
    return training_accuracy(Plan(phases))


@pytest.mark.parametrize("size", [2, 4])
def test_given_the_same_noise_ranks_train_as_one_process_does(
    size: int, two: RankGroup, four: RankGroup, tmp_path: Path
) -> None:
    """At rate 1 nothing else is random; 120 records divide by 2 and 4, 6 weights not by 4."""
    group, plan = {2: two, 4: four}[size], looked_at(3)
    alone = cases.trained(plan, EVERYONE, tmp_path / "alone", 3)
    found = group.same(cases.trained, plan, EVERYONE, tmp_path / "ranks", 3)
    a, b = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "ranks")
    for one in found:
        assert torch.equal(one["weights"], found[0]["weights"])
        assert one["summary"] == found[0]["summary"]
    torch.testing.assert_close(found[0]["weights"], alone["weights"], rtol=1e-5, atol=1e-6)
    assert [one["folder"] for one in found] == [tmp_path / "ranks"] + [None] * (size - 1)
    assert a.ledger().charged == b.ledger().charged
    assert (a.public / "decisions.jsonl").read_text() == (b.public / "decisions.jsonl").read_text()
    assert {p.name for p in a.public.iterdir()} == {p.name for p in b.public.iterdir()}


def test_a_run_of_ranks_claims_what_its_ledger_says(two: RankGroup, tmp_path: Path) -> None:
    plan = Plan((Phase("main", Pipeline(Flat(bound=1.0), Gaussian()), 5),))
    settings = dataclasses.replace(settings_of(), rate=0.25, expected_batch=None)
    found = two.same(cases.trained, plan, settings, tmp_path / "run")
    ledger = RunFolder(tmp_path / "run").ledger()
    assert ledger.steps == 5 and ledger.ended == "plan" and ledger.head.records == RECORDS
    assert found[0]["summary"]["epsilon"] == epsilon_of_ledger(ledger).value
    assert torch.equal(found[0]["weights"], found[1]["weights"])
