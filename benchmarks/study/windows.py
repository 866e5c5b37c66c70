"""What the windows do that responses to patches are averaged over: edges, and tents that overlap.

A linear model on both layers of patches, less their mean, is simulated with noise for all of
CIFAR-10's training records on some of them, and scored on records that were held back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from dpigu.trainers.data import Data, Tensors, load_data
from dpigu.trainers.data.features.filters import regions
from dpigu.trainers.data.features.patches import Patches, Windows
from dpigu.trainers.data.features.registry import feature_spec
from torch import Tensor

from benchmarks.study.cells import HELD_BACK
from benchmarks.study.simulate import Trial, simulated

RECORDS, SCORED, BATCH = 8000, 4000, 12_500.0
TRIALS = ("4,80,6,1", "2,110,3,1", "inf,80,6,1")
DRAWS = 2  # of the noise


def edges(height: int, width: int, count: int) -> Tensor:
    """Means over count × count regions of equal size that do not overlap: R × places."""
    sides = []
    for length in (height, width):
        ends = torch.linspace(0, length, count + 1)
        at = torch.arange(length)
        inside = torch.minimum(ends[1:, None], at + 1) - torch.maximum(ends[:-1, None], at)
        weights = inside.clamp(min=0)
        sides.append(weights / weights.sum(1, keepdim=True))
    return torch.einsum("ij,kl->ikjl", *sides).reshape(count**2, -1).contiguous()


WINDOWS: Mapping[str, Windows] = {
    "with edges": edges,
    "tents that reach the centres of their neighbours": regions,
    "tents that reach 1.4 times as far": partial(regions, reach=1.4),
}


def compared(
    data_dir: Path | None, *, records: int = RECORDS, scored: int = SCORED
) -> dict[str, list[float]]:
    """For each kind of windows the mean accuracy of every trial; no test record is read."""
    data = load_data("cifar10", data_dir)
    held = len(data.train_x) - HELD_BACK
    return {name: _scores(data, held, records, scored, own) for name, own in WINDOWS.items()}


def table(found: Mapping[str, Sequence[float]]) -> str:
    """Accuracy of simulated runs by the windows that responses are averaged over."""
    lines = ["| windows | ε = 4 | ε = 2 | without noise |", "|---|--:|--:|--:|"]
    for name, scores in found.items():
        lines.append(f"| {name} | {' | '.join(f'{score:.1%}' for score in scores)} |")
    return "\n".join(lines)


def _scores(data: Data, held: int, records: int, scored: int, windows: Windows) -> list[float]:
    features = Patches(tuple(data.train_x.shape[1:]), 2, windows)
    parts = slice(records), slice(held, held + scored)
    train, test = (
        Tensors(_halves(features, data.train_x[part]), data.train_y[part]) for part in parts
    )
    trials = [Trial.of(text) for text in TRIALS] * DRAWS
    spec = replace(feature_spec(data.spec, "layered-patches"), records=records)
    found = simulated(Data(spec, train, test), BATCH, trials, records=len(data.train_x))
    return torch.tensor(found).view(DRAWS, -1).mean(0).tolist()


def _halves(features: Patches, x: Tensor) -> Tensor:
    """Features as a run has them, through half precision."""
    return torch.cat([features(x_B).half() for x_B in x.split(64)]).float()
