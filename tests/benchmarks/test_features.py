"""The cost of features: that what is timed is what a run has, and the arithmetic of the table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dpigu.trainers.data import SPECS, Data, Tensors
from dpigu.trainers.data.features.dead_leaves import dead_leaves
from dpigu.trainers.data.features.registry import with_features

from benchmarks.study import features


def digits(count: int) -> Data:
    x, y = dead_leaves(count, (1, 8, 8)), torch.zeros(count, dtype=torch.long)
    return Data(SPECS["digits"], Tensors(x, y), Tensors(x[:1], y[:1]))


def test_what_is_timed_gives_the_features_that_a_run_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that goes on from another's features is timed with it; those are kept as halves."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = digits(8)
    theirs = with_features(data, "even-scattering", progress=False).train_x
    ours = features.built("even-scattering", data.spec)(data.train_x)
    assert torch.allclose(ours, theirs, rtol=0.01, atol=0.01) and float(ours.std()) > 0.3


def test_every_map_is_timed_on_training_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "load_data", lambda *_: digits(70))
    monkeypatch.setattr(features, "MAPS", (("digits", "even-scattering"),))
    (found,) = features.cost_of_features(None, records=70)
    assert found["records"] == 71 and found["record_seconds"] > 0 <= found["build_seconds"]


def test_what_a_map_learns_from_its_first_record_is_its_building(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Patches learn their filters when they are first called, once: no record costs that."""
    now = [0.0]

    class Lazy:
        ready = False

        def __call__(self, x_B: torch.Tensor) -> torch.Tensor:
            now[0] += 0.0 if self.ready else 50.0
            now[0] += 0.5 * len(x_B)
            self.ready = True
            return x_B

    monkeypatch.setattr(features, "load_data", lambda *_: digits(130))
    monkeypatch.setattr(features, "MAPS", (("digits", "even-scattering"),))
    monkeypatch.setattr(features, "built", lambda *_: Lazy())
    monkeypatch.setattr("time.process_time", lambda: now[0])
    (found,) = features.cost_of_features(None, records=130)
    assert (found["build_seconds"], found["record_seconds"]) == (50.5, 0.5)


def test_the_table_adds_what_the_map_takes_to_what_its_records_take() -> None:
    row = {"data": "mnist", "features": "patches", "records": 3000, "numbers": 1234}
    lines = features.table([row | {"build_seconds": 30.0, "record_seconds": 0.0125}]).splitlines()
    assert lines[2:] == ["| mnist | `patches` | 1,234 | 12.5 | 1.1 |"]
