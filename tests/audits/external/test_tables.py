"""Files of scores: what is not one column of numbers and one of membership is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dpigu.audits.external.tables import read_scores
from dpigu.dpcore import DataError

RIGHT: dict[str, Any] = {"score": [0.5, 2.0], "member": [0, 1]}


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"score": 1.0, "member": 1}, "score: this must be one column"),
        ({"score": np.ones((2, 2))}, "score: this must be one column"),
        ({"member": np.ones((2, 1))}, "member: this must be one column"),
        ({"score": [1 + 1j, 2]}, "not a number"),
        ({"score": ["a", "b"]}, "not a number"),
        ({"member": [1, 0, 1]}, "differ in length"),
        ({"member": [0.5, 1]}, "row 1"),
    ],
)
def test_arrays_of_another_form_are_refused(
    tmp_path: Path, arrays: dict[str, Any], why: str
) -> None:
    np.savez(tmp_path / "s.npz", **{**RIGHT, **arrays})
    with pytest.raises(DataError, match=why):
        read_scores(tmp_path / "s.npz")


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("score,member,score\n1,1,-1\n")
    with pytest.raises(DataError, match="two columns score"):
        read_scores(tmp_path / "s.csv")


def test_the_ending_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "S.CSV").write_text("score,member\n0.5,0\n2,true\n")
    scores, members, _ = read_scores(tmp_path / "S.CSV")
    assert scores.tolist() == RIGHT["score"] and members.tolist() == RIGHT["member"]
