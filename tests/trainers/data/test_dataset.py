"""Data fit what was declared, or one error says so and tells nothing about a record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dpigu.dpcore.errors import DataError
from dpigu.trainers.data import BYTES, SPECS, Data, DataSpec, Scaling, load_data
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def write_npz(path: Path, **changes: np.ndarray) -> Path:
    arrays = {
        "x": np.ones((6, 4), np.float32),
        "y": np.arange(6) % 3,
        "test_x": np.ones((2, 4), np.float32),
        "test_y": np.zeros(2, np.int64),
    }
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


def load_npz(path: Path) -> Data:
    return load_data(path, records=6, classes=3)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4)))
def test_bytes_are_scaled_to_the_unit_ball_of_the_maximum_norm_and_back(x: np.ndarray) -> None:
    scaled = BYTES.apply(x)
    assert scaled.dtype == torch.float32 and scaled.abs().max() <= 1
    assert np.array_equal(((scaled * 0.5 + 0.5) * 255).round().numpy(), x)


def test_scaling_reads_like_its_formula_and_leaves_its_input_alone() -> None:
    x = np.array([0.0, 8.0, 16.0], np.float32)
    assert Scaling(16, 0.5, 0.5).apply(x).tolist() == [-1, 0, 1]
    assert x.tolist() == [0, 8, 16]
    assert str(BYTES) == "(x / 255 − 0.5) / 0.5"


@pytest.mark.parametrize("records", [0, -1, 2.5, True, None])
def test_the_declared_number_of_records_is_a_positive_whole_number(records: object) -> None:
    with pytest.raises(DataError, match="declared number of records"):
        DataSpec("mine.npz", records, 2, (3,), Scaling())


def test_the_constants_of_a_named_data_set_are_fixed() -> None:
    assert load_data("digits", records=1_500, classes=10).spec == SPECS["digits"]
    with pytest.raises(DataError, match="records of a named data set is declared already"):
        load_data("digits", records=1_499)
    with pytest.raises(DataError, match="classes of a named data set is declared already"):
        load_data("digits", classes=9)


def test_no_record_stands_in_the_representation() -> None:
    assert repr(load_data("digits")) == f"Data(spec={SPECS['digits']!r})"


@given(x=hnp.arrays(np.float32, (5, 2, 3), elements=st.floats(-(2.0**90), 2.0**90, width=32)))
def test_floats_in_a_npz_are_taken_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, x: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("npz") / "mine.npz"
    np.savez(path, x=x, y=np.arange(5), x_test=x[:1], y_test=np.zeros(1, np.uint8))
    data = load_data(path, records=100, classes=5)
    assert np.array_equal(data.train_x.numpy(), x) and np.array_equal(data.test_x.numpy(), x[:1])
    assert data.spec == DataSpec("mine.npz", 100, 5, (2, 3), Scaling())


def test_bytes_in_a_npz_are_scaled(tmp_path: Path) -> None:
    x = np.array([[0], [255]], np.uint8)
    path = write_npz(tmp_path / "a.npz", x=x, y=np.array([0, 2]), test_x=x, test_y=np.array([1, 0]))
    data = load_npz(path)
    assert data.spec.scaling == BYTES and data.train_x.tolist() == [[-1], [1]]


def test_the_public_numbers_of_a_npz_must_be_declared(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    for given_numbers in ({"records": 6}, {"classes": 3}, {}):
        with pytest.raises(DataError, match="Declare `records` and `classes`"):
            load_data(path, **given_numbers)


# What does not fit is one error, and the error tells nothing about training records

NAN = np.full((6, 4), np.nan, np.float32)
WRONG = {
    "label above": ({"y": np.array([0, 1, 2, 3, 0, 7777])}, "a training label lies outside 0…2"),
    "label below": ({"y": np.array([0, 1, 2, 0, 0, -7777])}, "a training label lies outside 0…2"),
    "held-out label": ({"test_y": np.array([0, 3])}, "a held-out label lies outside 0…2"),
    "NaN": ({"x": NAN}, "a training input is not finite"),
    "infinite": ({"x": -np.inf * np.ones((6, 4), np.float32)}, "a training input is not finite"),
    "too large": ({"x": np.full((6, 4), 1e300), "test_x": np.zeros((2, 4))}, "is not finite"),
    "held-out NaN": ({"test_x": NAN[:2]}, "a held-out input is not finite"),
    "length": ({"y": np.zeros(7777, int)}, "the numbers of inputs and labels differ"),
    "empty": ({"x": np.ones((0, 4), np.float32), "y": np.zeros(0, int)}, "there is no record"),
    "words": ({"x": np.full((6, 4), "a"), "test_x": np.full((2, 4), "a")}, "text is no tensor"),
    "types differ": ({"x": np.ones((6, 4), np.uint8)}, "the two splits differ in type"),
    "float labels": ({"y": np.zeros(6)}, "not one integer for each record"),
    "floats in both": ({"y": np.zeros(6), "test_y": np.zeros(2)}, "fit more than one task"),
    "one-hot labels": ({"y": np.zeros((6, 3), int)}, "not one integer for each record"),
    "scalars": ({"x": np.ones(6), "test_x": np.ones(2)}, "the shape of a record is wrong"),
    "held-out shape": ({"test_x": np.ones((2, 5), np.float32)}, "the shape of a record is wrong"),
    "no held-out split": ({"test_x": None}, "a training or a held-out split is missing"),
    "objects": ({"x": np.array([{}] * 6)}, "not an npz file of plain arrays"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_one_line_without_a_private_number(tmp_path: Path, case: str) -> None:
    changes, words = WRONG[case]
    with pytest.raises(DataError, match=words) as error:
        load_npz(write_npz(tmp_path / "a.npz", **changes))
    assert "\n" not in str(error.value) and "7777" not in str(error.value)


def test_the_unchanged_twin_of_all_those_loads(tmp_path: Path) -> None:
    assert load_npz(write_npz(tmp_path / "a.npz")).train_x.shape == (6, 4)


def test_an_unknown_name_is_met_with_the_nearest_known_one() -> None:
    with pytest.raises(DataError, match=r"Did you mean fashion-mnist\?"):
        load_data("fashionmnist")
    with pytest.raises(DataError, match="digits, mnist, fashion-mnist, cifar10, or the path"):
        load_data("zzz")


def test_a_damaged_or_missing_npz_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b.npz: there is no such file"):
        load_npz(tmp_path / "b.npz")
    whole = write_npz(tmp_path / "a.npz").read_bytes()
    for spoilt in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "a.npz").write_bytes(spoilt)
        with pytest.raises(DataError, match=r"a.npz: the file cannot be read: it is not an npz"):
            load_npz(tmp_path / "a.npz")
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a.npz: the file cannot be read: it is not an npz"):
        load_npz(tmp_path / "a.npz")
