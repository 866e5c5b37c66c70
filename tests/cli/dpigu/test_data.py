"""`dpigu train` on data of one's own: a table, arrays, or code."""

from __future__ import annotations

import shutil
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
    assert (written["name"], written["test"]) == ("a.csv", "b.csv")
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


def test_code_of_one_s_own_makes_the_public_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_public.py").write_text(
        "import dpigu, torch\n"
        "def make():\n"
        "    x, y = torch.linspace(0, 1, 1920).reshape(30, 1, 8, 8), torch.arange(30) % 10\n"
        "    return dpigu.data_from(train=(x[:20], y[:20]), test=(x[20:], y[20:]),\n"
        "                           records=20, classes=10)\n"
    )
    out = tmp_path / "run"
    told = ("--preset", "gep-public", "--data", "digits", "--model", "linear", "--quiet")
    end = ("--epsilon", 4, "--delta", 1e-5, "--batch", 50, "--steps", 3, "--out", out)
    result = dpigu("train", *told, *end, "--public-data", "my_public:make")
    assert result.exit_code == 0, result.output
    said = one_line(dpigu("train", "--resume", "--out", out, "--quiet"))
    assert "the run's public data is code" in said and "my_public:make" in said
    assert dpigu("train", "--resume", "--out", out, "--quiet", "--trust-code").exit_code == 0
    config = out / "public" / "config.toml"
    said = one_line(dpigu("train", "--quiet", "--config", config))
    assert "--public-data my_public:make" in said


def test_a_file_in_a_folder_with_a_colon_is_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a:b"
    folder.mkdir()
    x, y = np.linspace(0, 1, 1280).reshape(20, 1, 8, 8), np.arange(20) % 10
    np.savez(folder / "public.npz", x=x, y=y)
    out = tmp_path / "run"
    told = ("--preset", "gep-public", "--data", "digits", "--model", "linear", "--quiet")
    end = ("--epsilon", 4, "--delta", 1e-5, "--batch", 50, "--steps", 3, "--out", out)
    result = dpigu("train", *told, *end, "--public-data", "a:b/public.npz")
    assert result.exit_code == 0, result.output
    assert "a:b" not in (out / "public" / "config.toml").read_text()
    assert dpigu("train", "--resume", "--out", out, "--quiet").exit_code == 0


def public_bytes(out: Path) -> bytes:
    return b"".join(p.read_bytes() for p in (out / "public").iterdir())


def test_where_a_file_lies_is_nobody_elses_business(
    files: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public folder has its name; resuming and repeating find it from anywhere all the same."""
    pytest.importorskip("pyarrow")
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    told = ("--target", "income", "--task", "regression", "--model", "linear")
    assert dpigu("train", *CHEAP, *files, *told, "--out", out).exit_code == 0
    assert b"a.csv" in public_bytes(out) and str(tmp_path).encode() not in public_bytes(out)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert dpigu("train", "--resume", "--out", out, "--quiet").exit_code == 0
    assert load_run_data(RunFolder.existing(out)).spec.records == 30
    assert recipe_from_file(out / "public" / "config.toml").load_data().spec.records == 30
    shared = Path(shutil.copytree(out / "public", elsewhere / "public")) / "config.toml"
    assert "b.csv: there is no such file" in one_line(dpigu("train", "--config", shared))
    assert recipe_from_file(shared).load_data(tmp_path).spec.records == 30


def test_an_error_of_a_table_names_its_path_and_the_options(
    files: tuple[object, ...], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    whole = ("train", *CHEAP, *files)
    said = one_line(dpigu(*whole, "--task", "regression"))
    assert f"{tmp_path / 'b.csv'}: " in said and "Declare it as --target." in said
    bare = ("train", *CHEAP, *files[:6], "--target", "income")
    assert "Declare it as --task, for example regression." in one_line(
        dpigu(*bare, "--columns", declared(tmp_path, "city = ['Bern', 'Rome']"), "--classes", 2)
    )
    said = one_line(dpigu(*bare, "--task", "regression"))
    assert f"{tmp_path / 'b.csv'}, column city" in said and "Declare in --columns" in said
    persons = ("--target", "income", "--task", "regression", "--unit", "who", "--per-unit", 2)
    said = one_line(dpigu(*whole, *persons))
    assert f"{tmp_path / 'a.csv'}: " in said and "Name a column as --unit," in said


def declared(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text)
    return path


def test_people_with_equal_inputs_are_on_both_sides_by_the_owners_word(tmp_path: Path) -> None:
    """Three categories of two values: every input is common to many."""
    draw = np.random.default_rng(0)
    x, u = (draw.integers(2, size=(count, 3)).astype(np.float32) for count in (200, 40))
    file, out = tmp_path / "few.npz", tmp_path / "run"
    np.savez(file, x=x, y=x[:, 0].astype(int), test_x=u, test_y=u[:, 0].astype(int))
    told = ("--data", file, "--records", 200, "--classes", 2, "--model", "linear", "--out", out)
    private = ("--preset", "dpsgd", "--rate", 0.5, "--steps", 2, "--noise-multiplier", 1)
    said = one_line(dpigu("train", *private, *told, "--delta", 1e-3, "--quiet"))
    assert "--unit" in said and "--common-inputs" in said and not out.exists()
    result = dpigu("train", *private, *told, "--delta", 1e-3, "--quiet", "--common-inputs")
    assert result.exit_code == 0, result.output
    assert "is the owner's word" in (out / "public" / "STATEMENT.txt").read_text()
    config = out / "public" / "config.toml"
    assert tomllib.loads(config.read_text())["data"]["common_inputs"] is True
    assert dpigu("train", "--resume", "--out", out, "--quiet").exit_code == 0
    assert recipe_from_file(config).common_inputs
