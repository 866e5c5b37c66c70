"""The comparison of windows: what they are, and that the noise is that of the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from dpigu.trainers.data import Data, DataSpec, Scaling, Tensors
from dpigu.trainers.data.features import patches
from dpigu.trainers.data.features.dead_leaves import dead_leaves
from dpigu.trainers.data.features.filters import regions

from benchmarks.study import windows
from benchmarks.study.simulate import Trial, simulated

SMALL = {"FILTERS": 32, "CHANNELS": 32, "IMAGES": 100, "LOW_FILTERS": 16, "MAPS": 8}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fewer filters and images, so that a prior takes no time."""
    for cache in (patches._prior, patches._filters):
        cache.cache_clear()
    for name, value in SMALL.items():
        monkeypatch.setattr(patches, name, value)
    yield
    for cache in (patches._prior, patches._filters):
        cache.cache_clear()


def test_windows_with_edges_cover_every_place_equally() -> None:
    pool = windows.edges(4, 7, 3)
    assert pool.shape == (9, 4 * 7)
    torch.testing.assert_close(pool.sum(1), torch.ones(9))
    torch.testing.assert_close(pool.mean(0), torch.full((28,), 1 / 28))


def test_tents_that_reach_further_are_flatter() -> None:
    heights = [float(regions(12, 12, 3, reach).max()) for reach in (0.6, 1.0, 1.4, 1.9)]
    assert all(low < high for high, low in pairwise(heights))
    assert {own for own in windows.WINDOWS.values()} >= {windows.edges, regions}


def test_windows_change_the_features_of_both_layers() -> None:
    x = dead_leaves(3, (3, 20, 20))
    found = [patches.Patches((3, 20, 20), 2, own)(x) for own in windows.WINDOWS.values()]
    for one, other in combinations(found, 2):
        for half in (slice(None, 32 * 9), slice(32 * 9, None)):
            assert float((one[:, half] - other[:, half]).abs().max()) > 0.01


def test_every_kind_is_scored_on_held_back_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test records are not there to be read; the noise is that of all training records."""
    x = dead_leaves(120, (3, 14, 14))
    y = torch.arange(120) % 2
    x[y == 1] *= (-1.0) ** torch.arange(14)  # stripes
    spec = DataSpec("made-up", 120, 2, (3, 14, 14), Scaling())
    nobody = Data(spec, Tensors(x, y), Tensors(x[:0], y[:0]))
    monkeypatch.setattr(windows, "load_data", lambda *_: nobody)
    monkeypatch.setattr(windows, "HELD_BACK", 40)
    monkeypatch.setattr(windows, "BATCH", 60.0)
    monkeypatch.setattr(windows, "TRIALS", ("0.1,3,0.3,1", "inf,20,0.3,1"))
    given = []

    def spied(data: Data, batch: float, trials: list[Trial], *, records: int) -> list[float]:
        given.append((data, batch, records))
        return simulated(data, batch, trials, records=records)

    monkeypatch.setattr(windows, "simulated", spied)
    found = windows.compared(Path(), records=60, scored=20)
    assert list(found) == list(windows.WINDOWS)
    assert all(len(scores) == 2 and scores[1] > 0.8 for scores in found.values())
    assert any(scores[0] < scores[1] for scores in found.values())
    for (data, batch, records), own in zip(given, windows.WINDOWS.values(), strict=True):
        assert (batch, records) == (60.0, 120)
        features = patches.Patches((3, 14, 14), 2, own)
        assert torch.equal(data.train_x, features(x[:60]).half().float())
        assert torch.equal(data.test_x, features(x[80:100]).half().float())
        assert torch.equal(data.test_y, y[80:100])


def test_the_table_has_a_line_for_each_kind() -> None:
    table = windows.table({"with edges": [0.7, 0.6, 0.75]}).splitlines()
    assert table[2:] == ["| with edges | 70.0% | 60.0% | 75.0% |"]
