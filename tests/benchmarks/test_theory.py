"""Progress of a support, as the theory counts it, and the pictures from runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.study import pictures
from benchmarks.study.cells import Cell
from benchmarks.study.store import Store
from benchmarks.study.theory import Looks, predict


def looks(ratio: float) -> Looks:
    nothing = torch.zeros(0)
    return Looks(torch.nn.Identity(), nothing, nothing, 1.0, ratio, set())


@given(size=st.integers(1, 30), seed=st.integers(0, 99), ratio=st.floats(0.1, 1.0))
def test_a_support_that_keeps_what_chance_would_is_neutral(
    size: int, seed: int, ratio: float
) -> None:
    """Energies the same everywhere: ρ = π = k/D, progress 1; the whole support always 1."""
    draw = torch.Generator().manual_seed(seed)
    score, mean = torch.rand((2, size), generator=draw).double()
    ones = torch.ones(size).double()
    if ratio * size >= 1:
        assert math.isclose(looks(ratio)._progress(score, ones, ones)["progress"], 1.0)
    whole = looks(1.0)._progress(score, mean + 0.1, mean + 0.2)
    assert math.isclose(whole["progress"], 1.0) and math.isclose(whole["rho"], 1.0)


def test_progress_is_the_formula() -> None:
    """Mean row (3, 1), energies (10, 10), the first coordinate: ρ = 0.9, π = 0.5, k/D = 0.5."""
    mean, energy = torch.tensor([3.0, 1.0]).double(), torch.tensor([10.0, 10.0]).double()
    found = looks(0.5)._progress(torch.tensor([2.0, 1.0]), mean, energy)
    assert math.isclose(found["rho"], 0.9) and math.isclose(found["pi"], 0.5)
    assert math.isclose(found["progress"], 0.81 / 0.25)


def test_the_mean_row_itself_beats_chance_along_a_run() -> None:
    """On digits; a random support is near 1, by chance off by little with 2,730 coordinates."""
    cell = Cell(
        name="digits",
        data="digits",
        preset="adadpigu",
        options={
            "expected_batch": 256.0,
            "steps": 10,
            "learning_rate": 0.5,
            "clip": 0.2,
            "noise_multiplier": 2.0,
        },
        plan={"scheduler": "top-k"},
    )
    found = predict(cell, None)
    assert [step["step"] for step in found] == [0, 4, 8]
    for step in found:
        supports = step["supports"]
        best = max(supports, key=lambda name: supports[name]["progress"])
        assert best == "the mean row itself (not private)"
        assert abs(supports["random"]["progress"] - 1) < 0.3
        assert step["scale_gain"] >= 1


@pytest.mark.pictures
def test_a_picture_is_drawn_of_the_cells_that_have_runs(tmp_path: Path) -> None:
    empty = Store(tmp_path, "table4")
    pictures.claimed_and_measured(empty, tmp_path / "empty.png")
    cell = Cell(name="mnist/adadpigu/2", data="mnist", preset="adadpigu", epsilon=2.0)
    empty.add(cell, {"seed": 0, "accuracy": 0.97})
    pictures.claimed_and_measured(empty, tmp_path / "one.png")
    first, second = (tmp_path / f"{n}.png" for n in ("empty", "one"))
    assert first.read_bytes() != second.read_bytes()
