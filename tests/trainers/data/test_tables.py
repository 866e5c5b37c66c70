"""Tables become inputs and targets by what is declared; nothing is fitted to their records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dpigu.dpcore.errors import ConfigurationError, DataError
from dpigu.trainers import Scaling, data_from, load_data
from dpigu.trainers.data.sources import columns as declared
from dpigu.trainers.data.sources import tables

arrow = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
HEAD = "age,city,income,rich\n"
ROWS = ("30,Bern,1.5,yes\n", "40,Rome,2.5,no\n", "50,Bern,3.5,no\n")
HELD = "35,Oslo,9.5,yes\n45,Rome,8.5,no\n"
COLUMNS = {"age": Scaling(divisor=10.0), "city": ("Bern", "Rome"), "rich": ("no", "yes")}


@pytest.fixture(params=["csv", "parquet"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A training and a held-out file."""
    paths = tmp_path / "train.csv", tmp_path / "test.csv"
    for path, text in zip(paths, (HEAD + "".join(ROWS), HEAD + HELD), strict=True):
        path.write_text(text)
    if request.param == "csv":
        return paths
    import pyarrow.csv as reader
    import pyarrow.parquet as writer

    for path in paths:
        writer.write_table(reader.read_csv(str(path)), path.with_suffix(".parquet"))
    return paths[0].with_suffix(".parquet"), paths[1].with_suffix(".parquet")


def test_columns_are_what_is_declared_of_them(files: tuple[Path, Path]) -> None:
    train, test = files
    data = load_data(train, records=3, classes=2, test=test, target="rich", columns=COLUMNS)
    expected = [[3.0, 1, 0, 1.5], [4.0, 0, 1, 2.5], [5.0, 1, 0, 3.5]]
    assert data.train_x.tolist() == expected and data.train_y.tolist() == [1, 0, 0]
    assert data.test_x[0].tolist() == [3.5, 0, 0, 9.5]  # a category that is not declared is none


def test_a_target_of_numbers_is_a_regression_if_that_is_said(files: tuple[Path, Path]) -> None:
    train, test = files
    options = {"records": 3, "test": test, "target": "income", "columns": COLUMNS}
    assert load_data(train, task="regression", **options).train_y.tolist() == [1.5, 2.5, 3.5]
    with pytest.raises(DataError, match="regression or binary"):
        load_data(train, classes=2, **options)


def test_what_is_not_declared_is_one_line_that_says_what_to_declare(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = files
    options = {"records": 3, "classes": 2, "target": "rich"}
    with pytest.raises(DataError, match=r"column city, rich: .*city = \[") as refused:
        load_data(train, test=test, **options)
    assert not any(word in str(refused.value) for word in ("Bern", "Rome", "Oslo"))
    with pytest.raises(DataError, match="none is chosen from private records"):
        load_data(train, **options)
    with pytest.raises(DataError, match="no such column"):
        load_data(train, test=test, **{**options, "target": "poor"})
    with pytest.raises(DataError, match="which column is the target"):
        load_data(train, test=test, records=3, classes=2)
    monkeypatch.setattr(tables.importlib, "import_module", _nothing)
    with pytest.raises(ConfigurationError, match="the extra 'parquet'"):
        load_data(train, test=test, **options)


def _nothing(name: str) -> None:
    raise ImportError(name)


def test_a_table_in_memory_is_read_like_a_file(files: tuple[Path, Path]) -> None:
    read = [tables.read_table(path) for path in files]
    train, test = (arrow.table(table) for table in read)
    data = data_from(train=train, test=test, records=3, classes=2, target="rich", columns=COLUMNS)
    assert data.train_x.shape == (3, 4) and data.train_x.dtype == torch.float32


def test_columns_of_a_configuration_are_those_of_python(files: tuple[Path, Path]) -> None:
    """Plain data means what the objects mean, and what means nothing is refused."""
    train, test = files
    options = {"train": train, "test": test, "records": 3, "classes": 2, "target": "rich"}
    plain = data_from(**options, columns=declared.columns_to_dict(COLUMNS))
    made = data_from(**options, columns=COLUMNS)
    assert torch.equal(plain.test_x, made.test_x)
    for wrong in ("columns.toml", {"age": {"scale": 2.0}}, {"city": "Ulm"}):
        with pytest.raises(ConfigurationError, match="column"):
            data_from(**options, columns=wrong)


def test_columns_survive_a_configuration() -> None:
    every = {**COLUMNS, "id": "drop", "bmi": declared.Filled(27.0, Scaling(std=6.0))}
    table = declared.columns_to_dict(every)
    assert declared.columns_from_dict(table, "here") == every
    with pytest.raises(ConfigurationError, match=r"columns\.age"):
        declared.columns_from_dict({"age": 3}, "here")


HOLED = "id,bmi,ill\na,20,0\nb,,1\n"
FILLED = {"id": "drop", "bmi": {"mean": 27.0, "std": 7.0, "missing": 34.0}}


def test_a_constant_stands_for_a_missing_number_and_a_column_may_be_dropped(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text(HOLED)
    test.write_text(HOLED.replace("20", "41"))
    options = {"train": train, "test": test, "records": 2, "classes": 2, "target": "ill"}
    data = data_from(**options, columns=FILLED)
    assert data.train_x.tolist() == [[-1.0], [1.0]] and data.test_x.tolist() == [[2.0], [1.0]]
    with pytest.raises(DataError, match=r"test\.csv, column bmi: numbers are missing") as refused:
        data_from(**options, columns={"id": "drop"})
    assert "bmi = {missing = 0.0}" in refused.value.remedy
    with pytest.raises(DataError, match="the target is dropped"):
        data_from(**options, columns={**FILLED, "ill": "drop"})


def test_where_a_training_number_is_missing_is_not_told(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text(HOLED)
    test.write_text("id,bmi,ill\na,30,0\nb,31,1\n")
    options = {"records": 2, "classes": 2, "target": "ill", "columns": {"id": "drop"}}
    with pytest.raises(DataError, match="never a mean of the training records") as refused:
        data_from(train=train, test=test, **options)
    assert "bmi" not in str(refused.value)


def test_a_second_npz_holds_the_held_out_split(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", x=np.ones((3, 2)), income=np.arange(3.0))
    data = load_data(
        tmp_path / "a.npz", records=3, test=tmp_path / "b.npz", target="income", task="regression"
    )
    assert data.train_y.tolist() == [0, 1, 2] and data.spec.classes is None


@pytest.mark.parametrize("more", ["", "1.5", "01", "town", "9" * 30])
def test_one_record_does_not_change_what_the_others_are(tmp_path: Path, more: str) -> None:
    """A column's type is told by all of its values; what a record becomes may not be."""
    known = {"town": ("1", "2"), "age": declared.Filled(3.0, Scaling(divisor=10.0))}
    told = []
    for name, rows in {"few": "", "more": f"{more},,1\n"}.items():
        path = tmp_path / f"{name}.csv"
        path.write_text("town,age,y\n1,20,0\n2,30,1\n1,40,0\n" + rows)
        table = tables.read_table(path, ["town"])
        frame = csv.read_csv(path)
        split = tables.table_split(table, name, "y", known, public=False)
        whole = {n: frame.column(n).to_numpy() for n in frame.column_names}
        inferred = tables.table_split(whole, name, "y", known, public=False)
        told.append((split[0][:3], inferred[0][:3]))
    for few, with_one_more in zip(*told, strict=True):
        assert np.array_equal(few, with_one_more) and few[:, :2].sum() == 3
