"""What the features of the strongest rows cost: processor time for a record, and for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from dpigu.trainers.data import SPECS, DataSpec, load_data
from dpigu.trainers.data.features.registry import BATCH, feature_map, feature_spec
from torch import Tensor

from benchmarks.machine import describe_machine

MAPS = (
    ("mnist", "deskewed-scattering"),
    ("fashion-mnist", "even-scattering"),
    ("cifar10", "patches"),
    ("cifar10", "layered-patches"),
)
"""Data sets, and a map that a row of theirs has."""
RECORDS = 1024


@torch.no_grad()
def cost_of_features(data_dir: Path | None, records: int = RECORDS) -> list[dict[str, Any]]:
    """Processor time to build every map, and of one record: the median over batches.

    A map is built when it has seen its first record: filters are learnt by then. Training records,
    in the batches in which features are kept; the files that keep them are not written.
    """
    found = []
    for data, name in MAPS:
        whole = load_data(data, data_dir)
        x = whole.train_x[:records]
        began = time.process_time()
        transform = built(name, whole.spec)
        transform(x[:1])
        build = time.process_time() - began
        took = [_seconds(transform, x_B) / len(x_B) for x_B in x.split(BATCH)]
        found.append(
            {
                "data": data,
                "features": name,
                "records": len(whole.train_x) + len(whole.test_x),
                "numbers": int(torch.Size(feature_spec(SPECS[data], name).shape).numel()),
                "build_seconds": build,
                "record_seconds": statistics.median(took),
                "processor": describe_machine(torch.get_num_threads())["cpu"],
            }
        )
    return found


def built(name: str, spec: DataSpec) -> Callable[[Tensor], Tensor]:
    """The map of that name from records of this kind, with the map that it goes on from."""
    features = feature_map(name)
    if features.of is None:
        return features.build(spec.shape)
    first = built(features.of, spec)
    then = features.build(feature_spec(spec, features.of).shape)
    return lambda x_B: then(first(x_B))


def table(found: Iterable[Mapping[str, Any]]) -> str:
    """Features once, for training and test records: a line a map."""
    lines = [
        "| data | features | numbers a record | ms a record | minutes for all records |",
        "|---|---|--:|--:|--:|",
    ]
    for row in found:
        minutes = (row["build_seconds"] + row["records"] * row["record_seconds"]) / 60
        lines.append(
            f"| {row['data']} | `{row['features']}` | {row['numbers']:,} | "
            f"{1e3 * row['record_seconds']:.1f} | {minutes:.1f} |"
        )
    return "\n".join(lines)


def _seconds(transform: Callable[[Tensor], Tensor], x_B: Tensor) -> float:
    began = time.process_time()
    transform(x_B)
    return time.process_time() - began
