"""`dpigu train` on data of one's own: a table, arrays, or code."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from dpigu.dpcore import RunError
from dpigu.trainers import load_run, recipe_from_file, resume
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.load import load_run_data

from tests.support.dpigu_command import dpigu, dpigu_json, one_line

CHEAP = ("--preset", "non-private", "--rate", 0.5, "--steps", 2, "--quiet")
CITIES = ("Bern", "Rome")


def table(path: Path, first: int, count: int) -> Path:
    rows = [f"{i},{CITIES[i % 2]},{i / 7}" for i in range(first, first + count)]
    path.write_text("\n".join(["age,city,income", *rows]))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[object, ...]:
    """A table in two files, and what is declared of it."""
    declared = tmp_path / "columns.toml"
    declared.write_text(
        "age = {divisor = 50.0}\ncity = ['Bern', 'Rome']\nincome = {divisor = 10.0}"
    )
    train, test = table(tmp_path / "a.csv", 0, 30), table(tmp_path / "b.csv", 30, 8)
    return ("--data", train, "--test", test, "--records", 30, "--columns", declared)


def test_a_table_trains_loads_and_resumes(files: tuple[object, ...], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "run"
    told = ("--target", "income", "--task", "regression", "--model", "linear", "--out", out)
    result = dpigu("train", *CHEAP, *files, *told)
    assert result.exit_code == 0, result.output
    assert "RMSE" in result.output and "accuracy" not in result.output
    written = tomllib.loads((out / "public" / "config.toml").read_text())["data"]
    assert written["task"] == "regression" and written["target"] == "income"
    assert written["columns"]["city"] == list(CITIES)
    again = recipe_from_file(out / "public" / "config.toml").load_data()
    assert again.train_x.shape == (30, 3) and load_run(out).model(again.test_x).shape == (8, 1)
    assert dpigu("train", "--resume", "--out", out, "--quiet").exit_code == 0
    described = dpigu_json("describe", out / "public" / "config.toml")
    assert described["coordinates"] == 4


def test_a_table_without_a_held_out_file_is_one_line(files: tuple[object, ...]) -> None:
    said = one_line(dpigu("train", *CHEAP, *files[:2], *files[4:], "--target", "income"))
    assert "--classes" in said or "classes" in said
    said = one_line(
        dpigu("train", *CHEAP, *files[:2], *files[4:], "--target", "income", "--task", "binary")
    )
    assert "none is chosen from private records" in said


def test_code_of_one_s_own_makes_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "mine.npz", x=np.arange(80.0).reshape(40, 2), y=np.arange(40) % 2)
    (tmp_path / "my_records.py").write_text(
        "import numpy, dpigu\n"
        "def make():\n"
        "    a = numpy.load('mine.npz')\n"
        "    x, y = a['x'] / 40, a['y']\n"
        "    return dpigu.data_from(train=(x[:30], y[:30]), test=(x[30:], y[30:]),\n"
        "                           records=30, classes=2)\n"
    )
    out = tmp_path / "run"
    told = ("--data", "my_records:make", "--records", 30, "--model", "linear", "--out", out)
    result = dpigu("train", *CHEAP, *told)
    assert result.exit_code == 0, result.output
    with pytest.raises(RunError, match="not run without your word"):
        resume(out, progress=False)
    with pytest.raises(RunError, match="not run without your word"):
        load_run_data(RunFolder.existing(out))
    assert load_run_data(RunFolder.existing(out), trust_code=True).spec.records == 30
    said = one_line(dpigu("train", "--resume", "--out", out, "--quiet"))
    assert "trust_code" in said or "--trust-code" in said
    assert dpigu("train", "--resume", "--out", out, "--quiet", "--trust-code").exit_code == 0
    said = one_line(dpigu("train", "--quiet", "--config", out / "public" / "config.toml"))
    assert "--data my_records:make" in said
