"""`dpaudit scores`, `foreign` and `plan`: files in, one line or one screen out, right statuses."""

from __future__ import annotations

import json
import pickle
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.cli.dpaudit.test_dpaudit import dpaudit
from tests.support.dpigu_command import dpigu, one_line, strict_json

CLAIM = ("--claim-epsilon", 1, "--delta", 1e-5)


def sample(count: int = 400, shift: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    members = draw.integers(0, 2, count)
    return draw.normal(size=count) + shift * members, members


def csv(path: Path, shift: float = 3.0, count: int = 400) -> Path:
    scores, members = sample(count, shift)
    lines = [f"{i},{s},{m}" for i, (s, m) in enumerate(zip(scores, members, strict=True))]
    path.write_text("id,score,member\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return csv(tmp_path / "scores.csv")


def test_scores_by_coins_can_contradict(file: Path) -> None:
    result = dpaudit("scores", file, *CLAIM, "--coins")
    assert result.exit_code == 1, result.output
    assert result.stdout.startswith("CONTRADICTED\n")
    assert "AUC" in result.stdout and "As you said" in result.stdout
    assert len(result.stdout.splitlines()) <= 24


def test_scores_that_say_nothing_contradict_nothing(tmp_path: Path) -> None:
    """Scores without a leak: a false alarm in 5% of samples, and this one is fixed."""
    result = dpaudit("scores", csv(tmp_path / "s.csv", shift=0.0), *CLAIM, "--coins")
    assert result.exit_code == 0, result.output


def test_without_coins_there_is_no_verdict_but_estimates(file: Path) -> None:
    result = dpaudit("scores", file, *CLAIM, "--no-coins", "--json")
    assert result.exit_code == 3
    report = strict_json(result.stdout)
    assert report["verdict"] == "INVALID AUDIT" and report["p_value"] is None
    assert report["estimates"]["auc"]["value"] > 0.9
    assert {at["fpr"] for at in report["estimates"]["tpr"]} == {0.001, 0.01}
    assert report["grid"] == [] and report["tests"] == []


def test_coins_or_not_must_be_said(file: Path) -> None:
    result = dpaudit("scores", file, *CLAIM)
    assert result.exit_code == 2 and "--coins" in one_line(result)


def test_the_three_formats_say_the_same(file: Path, tmp_path: Path) -> None:
    scores, members = sample()
    np.savez(tmp_path / "s.npz", score=scores, member=members == 1)
    answers = [
        strict_json(dpaudit("scores", f, *CLAIM, "--coins", "--json").stdout)
        for f in (file, tmp_path / "s.npz")
    ]
    for answer in answers:
        del answer["subject"], answer["reproduce"]
    assert answers[0] == answers[1]


def test_parquet_is_read_or_its_extra_is_named(tmp_path: Path) -> None:
    """Where pyarrow is installed the file is read; where it is not, the error says how to."""
    path = tmp_path / "s.parquet"
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        path.write_bytes(b"PAR1")
        result = dpaudit("scores", path, *CLAIM, "--coins")
        assert result.exit_code == 2 and "pip install 'pyarrow" in one_line(result)
        return
    scores, members = sample()
    parquet.write_table(pyarrow.table({"score": scores, "member": members}), path)
    assert dpaudit("scores", path, *CLAIM, "--coins").exit_code == 1


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "s.parquet").write_bytes(b"PAR1")
    result = dpaudit("scores", tmp_path / "s.parquet", *CLAIM, "--coins")
    assert result.exit_code == 2 and "pip install 'pyarrow" in one_line(result)


@pytest.mark.parametrize(
    ("text", "status", "why"),
    [
        ("score,member\n", 2, "no score"),
        ("", 2, "missing"),
        ("score,label\n1,1\n", 2, "member"),
        ("score,member\nhigh,1\n", 2, "not a number"),
        ("score,member\n1,perhaps\n", 2, "row 1"),
        ("score,member\n1\n", 2, "membership"),
        ("score,member\n" + "nan,1\n1,0\n" * 40, 3, "not numbers"),
        ("score,member\n" + "1,1\n" * 80, 3, "no fair coins"),
        ("score,member\n2,1\n1,0\n2,1\n", 3, "could not show any leak"),
    ],
)
def test_files_that_will_not_do(tmp_path: Path, text: str, status: int, why: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text)
    result = dpaudit("scores", path, *CLAIM, "--coins")
    assert result.exit_code == status, result.output
    assert why in " ".join((result.stdout if status == 3 else one_line(result)).split())


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.pkl").write_bytes(pickle.dumps({"score": [1]}))
    np.savez(tmp_path / "s.npz", score=np.array([{}], dtype=object), member=np.array([1]))
    for name, why in (("s.pkl", ".csv"), ("none.csv", "no such file"), ("s.npz", "Pickled")):
        result = dpaudit("scores", tmp_path / name, *CLAIM, "--coins")
        assert result.exit_code == 2 and why in one_line(result)


def test_the_report_goes_where_it_is_wanted(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = dpaudit("scores", file, *CLAIM, "--coins", "--out", out)
    assert result.exit_code == 1 and str(out / "report.html") in result.stdout
    stored = json.loads((out / "report.json").read_text())
    assert (
        stored["reproduce"][0].startswith("dpaudit scores ") and "--coins" in stored["reproduce"][0]
    )
    assert stat.S_IMODE((out / "report.html").stat().st_mode) == 0o600


class Bomb:
    """What goes off when it is unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("it was unpickled",))


@pytest.fixture
def foreign(tmp_path: Path) -> dict[str, Path]:
    """A linear model of 60 inputs that knows its 150 members by heart, and its files."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 200)).astype(np.float32)
    y = draw.integers(0, 3, 300)
    target = torch.nn.functional.one_hot(torch.from_numpy(y[:150]), 3).float()
    weight = torch.linalg.lstsq(torch.from_numpy(x[:150]), target).solution.T * 10
    save_file(
        {"1.weight": weight.contiguous(), "1.bias": torch.zeros(3)}, tmp_path / "w.safetensors"
    )
    np.savez(tmp_path / "in.npz", x=x[:150], y=y[:150])
    np.savez(tmp_path / "out.npz", x=x[150:], y=y[150:])
    return {
        "--weights": tmp_path / "w.safetensors",
        "--members": tmp_path / "in.npz",
        "--non-members": tmp_path / "out.npz",
    }


def audited(files: dict[str, Path], *more: object, model: str = "linear") -> Any:
    options = [word for pair in files.items() for word in pair]
    return dpaudit("foreign", "--model", model, *options, *CLAIM, *more)


def test_a_foreign_model_that_learnt_by_heart_is_contradicted(foreign: dict[str, Path]) -> None:
    result = audited(foreign, "--coins", "--json")
    assert result.exit_code == 1, result.output
    assert strict_json(result.stdout)["command"] == "foreign"
    assert audited(foreign, "--no-coins").exit_code == 3


def test_pickled_weights_and_records_are_never_loaded(foreign: dict[str, Path]) -> None:
    folder = foreign["--weights"].parent
    (folder / "w.pt").write_bytes(pickle.dumps(Bomb()))
    np.savez(folder / "bomb.npz", x=np.array([Bomb()], dtype=object), y=np.array([1]))
    for option, name in (("--weights", "w.pt"), ("--members", "bomb.npz")):
        result = audited(foreign | {option: folder / name}, "--coins")
        assert result.exit_code == 2 and "Pickled" in one_line(result)


def test_foreign_files_that_do_not_fit_are_one_line(foreign: dict[str, Path]) -> None:
    folder = foreign["--weights"].parent
    save_file(
        {"1.weight": torch.zeros(3, 5), "1.bias": torch.zeros(3)}, folder / "small.safetensors"
    )
    np.savez(folder / "narrow.npz", x=np.zeros((5, 3), np.float32), y=np.zeros(5, int))
    for option, name, why in (
        ("--weights", "small.safetensors", "do not fit"),
        ("--weights", "none.safetensors", "no such file"),
        ("--members", "narrow.npz", "differ in shape"),
        ("--non-members", "none.npz", "no such file"),
    ):
        result = audited(foreign | {option: folder / name}, "--coins")
        assert result.exit_code == 2 and why in one_line(result)
    result = audited(foreign, "--coins", model="nowhere:make")
    assert result.exit_code == 2 and "imported" in one_line(result)


def test_a_plan_shows_power_and_draws_it(tmp_path: Path) -> None:
    size = ("--noise-multiplier", 5, "--rate", 1, "--steps", 25, "--canaries", 60, "--noise", 0.5)
    result = dpaudit("plan", *size, "--records", 1500, "--picture", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    assert "true ε" in result.stdout and "cost" in result.stdout
    assert (tmp_path / "p.png").is_file()
    plan = strict_json(dpaudit("plan", *size, "--json").stdout)
    assert plan["canaries"] == [60] and plan["violations"][0]["noise"] == 0.5


def test_a_plan_that_cannot_be_drawn_is_a_mistake(tmp_path: Path) -> None:
    size = ("--noise-multiplier", 5, "--rate", 1, "--steps", 1, "--canaries", 20, "--noise", 0.5)
    result = dpaudit("plan", *size, "--picture", tmp_path / "p.gif")
    assert result.exit_code == 2 and ".png" in one_line(result)
    result = dpaudit("plan", "--noise-multiplier", 0, "--rate", 1, "--steps", 1)
    assert result.exit_code == 2 and "--noise-multiplier" in one_line(result)


def test_every_help_has_an_example_here_too() -> None:
    for name in ("scores", "foreign", "plan"):
        result = dpaudit(name, "--help")
        assert result.exit_code == 0 and "Example" in result.stdout


def test_crafted_gradients_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = ("--data", "digits", "--model", "linear", "--batch", 60, "--accountant", "rdp")
    result = dpigu(
        *("train", "--preset", "dpsgd", *small, "--steps", 3, "--noise-multiplier", 1, "--quiet"),
        *("--canaries", 50, "--canary-kind", "gradient", "--out", out),
    )
    assert result.exit_code == 0, result.stderr
    (out / "public" / "summary.json").unlink()
    assert dpigu("train", "--resume", "--out", out, "--quiet").exit_code == 0
    result = dpaudit("model", out)
    assert result.exit_code == 0, result.output
    assert "crafted gradients" in result.stdout and "3 steps of 3 charged" in result.stdout


def test_a_kind_without_canaries_is_a_mistake(tmp_path: Path) -> None:
    result = dpigu("train", "--preset", "dpsgd", "--canary-kind", "blank", "--out", tmp_path / "r")
    assert result.exit_code == 2 and "--canaries" in one_line(result)
    result = dpigu(
        *("train", "--preset", "non-private", "--data", "digits", "--steps", 1, "--canaries", 50),
        *("--canary-kind", "gradient", "--out", tmp_path / "r"),
    )
    assert result.exit_code == 2 and "noise" in one_line(result)
