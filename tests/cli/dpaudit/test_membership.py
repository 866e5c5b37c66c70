"""`dpaudit model --shadows`: attacks beside the verdict, by workers, cached, in a few seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dpigu.trainers import load_data

from tests.cli.dpaudit.test_dpaudit import dpaudit
from tests.support.dpigu_command import dpigu, one_line, strict_json

FEW = 150


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few digits learnt by heart without noise; a third of their labels are made up.

    The labels are those of held-out digits too, so members and non-members differ in nothing else.
    """
    folder = tmp_path_factory.mktemp("membership")
    digits, draw = load_data("digits"), np.random.default_rng(0)
    x, y = digits.train_x[: 2 * FEW].numpy(), digits.train_y[: 2 * FEW].numpy().copy()
    wrong = draw.random(2 * FEW) < 1 / 3
    y[wrong] = draw.integers(0, 10, wrong.sum())
    np.savez(folder / "few.npz", x=x[:FEW], y=y[:FEW], test_x=x[FEW:], test_y=y[FEW:])
    result = dpigu(
        *("train", "--preset", "non-private", "--data", folder / "few.npz", "--model", "mlp"),
        *("--records", FEW, "--classes", 10, "--batch", 75, "--steps", 60),
        *("--learning-rate", 0.5, "--out", folder / "run", "--quiet"),
    )
    assert result.exit_code == 0, result.stderr
    return folder / "run"


@pytest.mark.deep
@pytest.mark.usefixtures("forked")
def test_attacks_stand_beside_a_verdict_and_are_cached(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers train four shadows. By the loss alone AUC is about 0.72, its interval ± 0.06."""
    result = dpaudit("model", run, "--shadows", 4, "--workers", 2, "--json")
    assert result.exit_code == 3, result.output
    report = strict_json(result.stdout)
    assert report == strict_json((run / "private" / "report.json").read_text())
    assert report["verdict"] == "INVALID AUDIT" and report["p_value"] is None
    found = report["membership"]
    assert found["members"] == found["non_members"] == FEW and found["shadows"] == 4
    assert {a["name"]: a["auc"]["low"] for a in found["attacks"]}["loss"] > 0.5
    assert report["reproduce"] == [f"dpaudit model {run} --shadows 4"]
    assert not [path for path in (run / "public").iterdir() if "shadow" in path.name]

    def train_nothing(work: object, tasks: list[int], *others: object) -> Iterator[int]:
        assert not tasks
        yield from ()

    monkeypatch.setattr("dpigu.audits.membership.shadows.spread", train_nothing)
    again = dpaudit("model", run, "--shadows", 4)
    assert again.exit_code == 3
    for word in ("Loss: AUC", "LiRA, online: AUC", "RMIA: AUC", "Estimates: they decide nothing."):
        assert word in again.stdout
    assert strict_json((run / "private" / "report.json").read_text()) == report
    assert "What each attack asks" in (run / "private" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shadows", 5), "in pairs"),
        (("--shadows", 2), "in pairs"),
        (("--workers", 2), "--workers needs --shadows"),
        (("--shadows", -4), "--shadows"),
    ],
)
def test_a_mistake_is_one_line(run: Path, options: tuple[object, ...], words: str) -> None:
    result = dpaudit("model", run, *options)
    assert result.exit_code == 2
    assert words in one_line(result)


def test_a_plan_that_was_changed_is_an_invalid_audit_with_shadows_too(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = dpigu(
        *("train", "--preset", "non-private", "--data", "digits", "--model", "linear"),
        *("--canaries", 100, "--steps", 2, "--out", out, "--quiet"),
    )
    assert result.exit_code == 0, result.stderr
    fine = dpaudit("model", out, "--shadows", 0, "--claim-epsilon", 8, "--json")
    assert fine.exit_code == 0 and strict_json(fine.stdout)["membership"]["members"] == 1400
    path = out / "private" / "audit-plan.json"
    plan = json.loads(path.read_text())
    plan["coins"][0] = 1 - plan["coins"][0]
    path.write_text(json.dumps(plan))
    result = dpaudit("model", out, "--shadows", 0, "--claim-epsilon", 8, "--json")
    assert result.exit_code == 3, result.output
    report = strict_json(result.stdout)
    assert report["membership"] is None and "committed to" in report["sentence"]


def test_an_interrupt_says_how_to_go_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpigu.audits.membership.shadows.spread", interrupted)
    result = dpaudit("model", copy, "--shadows", 8)
    assert result.exit_code == 130
    assert f"continue with: dpaudit model {copy} --shadows 8" in result.stderr
