"""The study's tables are what its kept runs and its committed configurations say."""

from __future__ import annotations

import json
import math
import re
import statistics
from dataclasses import replace
from pathlib import Path

import click
import pytest
from dpigu.accountants import get_accountant
from dpigu.accountants.events import flatten
from dpigu.cli.dpigu.train.command import train
from dpigu.cli.shared.recipes import recipe_from
from dpigu.dpcore import PoissonSampler
from dpigu.mechanisms import adadpigu, dpsgd
from scipy.stats import t as student

from benchmarks.study import report
from benchmarks.study.cells import Cell, calibrated, measure
from benchmarks.study.plans import ablated
from benchmarks.study.store import RESULTS, Store
from benchmarks.study.tables import METHODS, TABLES, TRIALS, chosen, trials

ROOT = Path(__file__).resolve().parents[2]
FIELDS = [
    "dataset",
    "method",
    "target_epsilon",
    "epsilon",
    "delta",
    "accuracy_mean",
    "accuracy_std",
    "seeds",
    "noise_multiplier",
    "steps",
    "command",
]
TINY = Cell(
    name="digits/adadpigu/4",
    data="digits",
    preset="adadpigu",
    epsilon=4.0,
    options={"expected_batch": 256.0, "steps": 10, "learning_rate": 0.5, "clip": 0.2},
    points=2,
)


def run(seed: int, accuracy: float) -> dict[str, float]:
    return {"seed": seed, "accuracy": accuracy}


def test_a_run_charges_its_plan_by_prv_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = measure(TINY, 3, None)
    sampler = PoissonSampler(256 / 1500, 1500)
    factor, epsilon = calibrated(TINY.recipe(3).plan, sampler.rate, 1500, TINY.recipe(3).settings)
    assert (found["seed"], found["steps"], found["rate"]) == (3, 10, sampler.rate)
    assert found["epsilon"] == epsilon and 3.9 < epsilon <= 4.0
    event = TINY.recipe(3).plan.scaled_noise(factor).event(sampler)
    assert epsilon == get_accountant("prv").epsilon(event, 1e-5).value
    assert found["noise_multiplier"] == factor  # the last phase's multiplier is 1 in the preset
    assert [step for step, _ in found["points"]] == [5, 10]
    assert found["points"][-1][1] == found["accuracy"]
    assert found["processor"] and found["features"] is None
    along = report.plan_of(TINY, found)
    assert along[0].event(sampler) == event
    assert flatten(report.event(json.loads(json.dumps(found)))) == flatten(event)


def test_a_trial_is_a_quarter_of_the_steps_with_the_noise_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = {**TINY.options, "steps": 40}
    whole = replace(TINY, options=options, validation=True, points=1)
    trial = measure(replace(whole, share=0.25), 0, None)
    settings, records = whole.recipe(0).settings, 1200
    factor, _ = calibrated(whole.recipe(0).plan, 256 / records, records, settings)
    own, _ = calibrated(whole.recipe(0, steps=10).plan, 256 / records, records, settings)
    assert trial["steps"] == 10 and sum(count for _, _, count in trial["terms"]) == 10
    assert trial["noise_multiplier"] == factor != own
    assert trial["epsilon"] > 3.9  # the whole plan's: the noise was made for it
    assert "share" not in whole.configuration()
    assert replace(whole, share=0.25).configuration()["share"] == 0.25


def test_cells_resume_and_never_mix_configurations(tmp_path: Path) -> None:
    store = Store(tmp_path, "table")
    assert store.missing(TINY, (0, 1)) == [0, 1]
    store.add(TINY, run(1, 0.9))
    again = Store(tmp_path, "table")
    assert again.missing(TINY, (0, 1)) == [0]
    again.add(TINY, run(0, 0.8))
    assert [kept["seed"] for kept in Store(tmp_path, "table").runs(TINY.name)] == [0, 1]
    other = replace(TINY, epsilon=2.0)
    with pytest.raises(click.ClickException, match=r"epsilon 4\.0 there, 2\.0 here"):
        again.missing(other, (0,))
    with pytest.raises(click.ClickException, match=r"share None there, 0\.25 here"):
        again.check(replace(TINY, share=0.25))


@pytest.mark.parametrize("table", list(TABLES))
def test_every_kept_run_is_of_the_configuration_that_its_cell_has(table: str) -> None:
    store = Store(RESULTS, table)
    for cell in TABLES[table]():
        store.check(cell)


def test_parts_taken_out_of_adadpigu_leave_dpsgd_and_both_make_adadpigu() -> None:
    """Events and stages, phase by phase; DP-SGD in two phases is DP-SGD."""
    sampler = PoissonSampler(0.01, 1000)
    assert ablated(50).event(sampler) == _merged(dpsgd(50).event(sampler))
    assert all(not phase.pipeline.rows for phase in ablated(50).phases)
    both = ablated(
        50, scheduler="linear-unfreeze", scorer="coherent", standardizer=True, ratio=0.8, bound=0.3
    )
    assert both == adadpigu(50, bound=0.3, ratio=0.8)


def _merged(event: object) -> object:
    """One phase's event in place of two that are the same step: their counts add up."""
    two = ablated(50).event(PoissonSampler(0.01, 1000))
    counts = sum(part.count for part in two.events)
    only = event.events[0] if hasattr(event, "events") else event
    assert counts == only.count == 50
    assert {part.event for part in two.events} == {only.event}
    return two


@pytest.mark.parametrize("table", ["table4", "best"])
def test_a_cells_command_asks_for_what_the_cell_ran(table: str) -> None:
    for cell in TABLES[table]():
        words = report.command(cell).split()
        assert words[:2] == ["dpigu", "train"]
        options = train.make_context("train", words[2:]).params
        preset, config = options.pop("preset"), options.pop("config")
        asked = recipe_from(preset, config, options)
        ours = cell.recipe(0)
        assert (asked.plan, asked.settings, asked.model) == (ours.plan, ours.settings, ours.model)


def test_every_method_has_the_same_number_of_trials_and_a_chosen_one_of_them() -> None:
    for cell in TABLES["tune"]():
        assert cell.validation and cell.epsilon == 2.0
        data, method, _ = cell.name.split("/")
        assert len(trials(data, method)) == TRIALS
        assert chosen(data, method) in trials(data, method)


def test_the_chosen_trial_is_the_best_on_the_validation_split() -> None:
    kept = Store(RESULTS, "tune")
    for data in ("mnist", "fashion-mnist", "cifar10"):
        for method in METHODS:
            scores = {
                k: kept.runs(f"{data}/{method}/{k}")[0]["accuracy"]
                for k in range(TRIALS)
                if kept.runs(f"{data}/{method}/{k}")
            }
            if scores:
                best = max(scores, key=lambda k: scores[k])
                assert chosen(data, method) == trials(data, method)[best]


def test_the_data_file_is_that_of_the_kept_runs() -> None:
    """Table 4's file: its fields, fractions, seeds, and numbers that the runs give again."""
    filed = json.loads((ROOT / "docs" / "results" / "table4.json").read_text())
    again = [
        row
        for table in ("table4", "best")
        for row in report.rows(TABLES[table](), Store(RESULTS, table))
    ]
    assert filed == again
    for row in filed:
        assert list(row) == FIELDS
        assert 0 < row["accuracy_mean"] < 1 and 0 <= row["accuracy_std"] < 0.05
        assert row["epsilon"] <= row["target_epsilon"] + 1e-9 and row["delta"] == 1e-5
        assert len(row["seeds"]) >= 3
    names = [(r["dataset"], r["method"], r["target_epsilon"]) for r in filed]
    assert len(set(names)) == len(names)
    paper = [name for name in names if name[1] in METHODS]
    assert len(paper) >= 24


def test_every_accuracy_in_the_readme_on_images_is_a_cell() -> None:
    """Each "xx.xx%" of a line with a data set's name; the digits of the demo are its own."""
    rows = json.loads((ROOT / "docs" / "results" / "table4.json").read_text())
    text = (ROOT / "README.md").read_text()
    claims = re.findall(r"(\d\d\.\d\d)% ± (\d\.\d\d)", text)
    cells = {(f"{100 * r['accuracy_mean']:.2f}", f"{100 * r['accuracy_std']:.2f}") for r in rows}
    assert claims and set(claims) <= cells


def test_the_width_for_a_new_run_is_that_of_a_prediction_interval() -> None:
    """Two cells of 3 and 2 runs: 3 degrees of freedom, against the formula written out."""
    one, two = [0.90, 0.92, 0.94], [0.5, 0.52]
    pooled, within = report.spread_of_a_new_run(
        [[run(k, a) for k, a in enumerate(cell)] for cell in (one, two)]
    )
    squares = 2 * statistics.variance(one) + statistics.variance(two)
    assert math.isclose(pooled, math.sqrt(squares / 3))
    width = student.ppf(0.975, 3) * pooled
    assert within.keys() == {2, 3}
    assert math.isclose(within[3], width * math.sqrt(4 / 3))
    assert math.isclose(within[2], width * math.sqrt(3 / 2))


def test_a_rerun_outside_the_stated_interval_is_named(tmp_path: Path) -> None:
    kept, again = Store(tmp_path / "kept", "table"), Store(tmp_path / "again", "table")
    other = replace(TINY, name="digits/adadpigu/2", epsilon=2.0)
    for seed, accuracy in enumerate((0.90, 0.92, 0.94)):
        kept.add(TINY, run(seed, accuracy))
    for seed, accuracy in ((3, 0.939), (4, 0.941)):
        again.add(TINY, run(seed, accuracy))
    again.add(other, run(3, 0.5))  # of no kept mean
    table = report.rerun_table([([TINY, other], kept, again, lambda _: {3: 0.02})]).splitlines()
    assert table[2:] == [
        "| digits/adadpigu/4 | 92.00 | ± 2.00 | 93.90 (seed 3), 94.10 (seed 4, **outside**) |"
    ]


def test_table_3_gives_the_epsilons_that_were_found_by_hand() -> None:
    """RDP at 500 epochs, from an independent reading of the paper, and bounds in their order."""
    filed = json.loads((ROOT / "docs" / "results" / "table3.json").read_text())
    by_row = {(r["dataset"], r["claimed_epsilon"]): r for r in filed}
    assert [round(by_row["mnist", e]["rdp_epsilon"], 1) for e in (2, 4, 8)] == [2.8, 5.9, 12.5]
    assert [round(by_row["cifar10", e]["rdp_epsilon"], 1) for e in (2, 4, 8)] == [4.2, 8.9, 19.2]
    for row in filed:
        assert row["prv_epsilon"] < row["rdp_epsilon"]
        assert row["rdp_epochs"] < row["pld_epochs"] < 500
