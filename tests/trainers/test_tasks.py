"""Tasks × models × sources: each trains and names its own metric, or is refused before a charge."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from dpigu.mechanisms import dpsgd

import dpigu
from dpigu import DpiguError, ReproducibleNoise, Settings, data_from, train
from tests.support.zoo.task_cases import CASES, Case
from tests.support.zoo.task_zoo import N

SETTINGS = {"noise_multiplier": 1.0, "expected_batch": 8.0, "accountant": "rdp", "evaluations": 1}
TRAINED = [name for name, case in CASES.items() if not case.refused]
REFUSED = [name for name, case in CASES.items() if case.refused]


def run(case: Case, folder: Path, engine: str = "auto", out: Path | None = None) -> dpigu.Run:
    """Two steps of a case, without a claim: its price is not what is asked here."""
    options = dict(case.options)
    settings = Settings(**SETTINGS, engine=engine, workers=options.pop("workers", 0))
    data = data_from(**case.data(folder), records=N, name="given", **case.declared)
    torch.manual_seed(0)
    noise = ReproducibleNoise(0)
    return train(
        dpsgd(2), data, case.model(), settings, noise=noise, out=out, progress=False, **options
    )


@pytest.mark.parametrize("name", TRAINED)
def test_it_trains_and_says_what_it_measured(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    summary = run(case, tmp_path).summary
    assert summary["steps"] == 2
    assert tuple(summary["metrics"]) == case.metrics
    for metric in case.metrics:
        assert math.isfinite(summary[f"test_{metric}"])
    assert ("test_accuracy" in summary) == ("accuracy" in case.metrics)


@pytest.mark.parametrize("name", ("tokens by name", "several labels", "causal, padded", "weighted"))
def test_it_trains_on_rows_formed_whole(name: str, tmp_path: Path) -> None:
    assert run(CASES[name], tmp_path, "materialising").summary["steps"] == 2


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line_before_a_charge(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(DpiguError) as refused:
        run(CASES[name], tmp_path, out=out)
    assert CASES[name].refused in str(refused.value) and "\n" not in str(refused.value)
    assert not out.exists()


@pytest.mark.parametrize("name", ("regression", "a tree of targets"))
def test_a_folder_names_what_was_measured(name: str, tmp_path: Path) -> None:
    case, out = CASES[name], tmp_path / "run"
    run(case, tmp_path, out=out)
    (line,) = (out / "public" / "metrics.jsonl").read_text().splitlines()
    expected = {"step", "epsilon", *(f"test_{metric}" for metric in case.metrics)}
    expected |= {"learning_rate", "support", "clipped"}
    assert set(json.loads(line)) == expected
    everything = "".join(
        path.read_text()
        for path in sorted((out / "public").iterdir())
        if path.suffix in (".json", ".jsonl", ".toml", ".txt")
    )
    assert "accuracy" not in everything and case.declared["task"] in everything
    assert (out / "public" / "run.png").stat().st_size > 0


def test_there_are_thirty_cases_and_more() -> None:
    assert len(TRAINED) >= 30 and len(REFUSED) >= 10
