"""What a further compression does to pictures."""

from __future__ import annotations

import torch
from dpigu.trainers.data.features.dead_leaves import dead_leaves

from benchmarks.study.jpeg import compressed, table


def test_a_worse_quality_moves_pixels_further() -> None:
    """What is compressed has the same form and range, and a grey picture stays as it is."""
    x = dead_leaves(8, (3, 32, 32))
    once = compressed(x, 75)
    moved = [float((compressed(x, quality) - x).square().mean()) for quality in (95, 75, 30)]
    assert once.shape == x.shape and 0 < moved[0] < moved[1] < moved[2] < 0.2
    assert float(once.min()) >= -1 and float(once.max()) <= 1
    grey = torch.full((1, 3, 32, 32), 0.2)
    assert float((compressed(grey, 75) - grey).abs().max()) < 0.02


def test_the_table_names_each_quality() -> None:
    rows = [{"quality": None, "changed_by": 0.0, "accuracy": 0.5}]
    rows += [{"quality": 75, "changed_by": 6.24, "accuracy": 0.481}]
    lines = table(rows).splitlines()
    assert lines[2:] == ["| not at all | 0.0 | 50.0% |", "| quality 75 | 6.2 | 48.1% |"]
