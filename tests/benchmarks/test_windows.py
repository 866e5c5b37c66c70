"""The comparison of windows: what they are, and that the noise is that of the whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dpigu.trainers.data import Data, DataSpec, Scaling, Tensors
from dpigu.trainers.data.features import patches
from dpigu.trainers.data.features.dead_leaves import dead_leaves
from dpigu.trainers.data.features.filters import regions

from benchmarks.study import windows
from benchmarks.study.report import windows_table

SMALL = {"FILTERS": 32, "CHANNELS": 32, "IMAGES": 100, "LOW_FILTERS": 16, "MAPS": 8}


def test_windows_with_edges_cover_every_place_equally() -> None:
    pool = windows.edges(4, 7, 3)
    assert pool.shape == (9, 4 * 7)
    torch.testing.assert_close(pool.sum(1), torch.ones(9))
    torch.testing.assert_close(pool.mean(0), torch.full((28,), 1 / 28))


def test_tents_that_reach_further_are_flatter() -> None:
    heights = [float(regions(12, 12, 3, reach).max()) for reach in (0.6, 1.0, 1.4, 1.9)]
    assert heights == sorted(heights, reverse=True)
    assert {own for own in windows.WINDOWS.values()} >= {windows.edges, regions}


def test_every_kind_is_scored_on_held_back_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test records are not there to be read; without noise stripes are told from none."""
    for name, value in SMALL.items():
        monkeypatch.setattr(patches, name, value)
    patches._prior.cache_clear()
    x = dead_leaves(120, (3, 14, 14))
    y = torch.arange(120) % 2
    x[y == 1] *= (-1.0) ** torch.arange(14)  # stripes
    spec = DataSpec("made-up", 120, 2, (3, 14, 14), Scaling())
    nobody = Data(spec, Tensors(x, y), Tensors(x[:0], y[:0]))
    monkeypatch.setattr(windows, "load_data", lambda *_: nobody)
    monkeypatch.setattr(windows, "HELD_BACK", 40)
    monkeypatch.setattr(windows, "BATCH", 60.0)
    monkeypatch.setattr(windows, "TRIALS", ("0.1,3,0.3,1", "inf,20,0.3,1"))
    found = windows.compared(Path(), records=80, scored=40)
    patches._prior.cache_clear()
    assert list(found) == list(windows.WINDOWS)
    assert all(len(scores) == 2 and scores[1] > 0.8 for scores in found.values())
    assert any(scores[0] < scores[1] for scores in found.values())


def test_the_table_has_a_line_for_each_kind() -> None:
    table = windows_table({"with edges": [0.7, 0.6, 0.75]}).splitlines()
    assert table[2:] == ["| with edges | 70.0% | 60.0% | 75.0% |"]
