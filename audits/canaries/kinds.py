"""Kinds of canaries: what each is made of, and by which score it is looked for.

Heads trains the canary, tails leaves it out. The kinds differ in what is planted only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from dpigu.trainers import Data, DataSpec
from torch import Tensor

from dpigu.names import CanaryName

LIT = 3  # coordinates that a blank record shows


@dataclass(frozen=True, kw_only=True)
class CanaryKind:
    """A kind of canary.

    Args:
        name: in `KINDS`.
        what: of what it is made, in the plural, for reports.
        from_data: whether it stands on a record of the data, which then trains only by its coin.
        score: by which scores its members are told: a name in
            `dpigu.audits.scores.SCORES`, or "likelihood-ratio" over the released sums.
    """

    name: CanaryName
    what: str
    from_data: bool
    score: str


WHITE_BOX = "likelihood-ratio"

KINDS: Mapping[str, CanaryKind] = {
    kind.name: kind
    for kind in (
        CanaryKind(name="mislabelled", what="mislabelled records", from_data=True, score="margin"),
        CanaryKind(
            name="records", what="records of the data, as they are", from_data=True, score="margin"
        ),
        CanaryKind(name="random", what="made-up records of noise", from_data=False, score="margin"),
        CanaryKind(
            name="blank", what="made-up, nearly blank records", from_data=False, score="margin"
        ),
        CanaryKind(name="gradient", what="crafted gradients", from_data=False, score=WHITE_BOX),
    )
}


def canary_records(
    kind: CanaryKind, key: bytes, ids: Sequence[int], labels: Sequence[int], data: Data
) -> tuple[Tensor, Tensor]:
    """What trains on heads: m records (m × shape) and their labels.

    Made-up records come from the plan's key, so that they need no file: `random` is uniform over
    the declared range [0, divisor] before scaling, `blank` is 0 but for 3 coordinates at the top.
    """
    labels_m = data.train_y.new_tensor(list(labels))
    if kind.from_data:
        return data.train_x[list(ids)], labels_m
    stored = np.stack([_made_up(kind.name, key, i, data.spec) for i in ids])
    return data.spec.scaling.apply(stored).to(data.train_x.dtype), labels_m


def _made_up(name: str, key: bytes, i: int, spec: DataSpec) -> np.ndarray:
    """One record before scaling, from SHAKE-256 of the key and its number."""
    shape = torch.Size(spec.shape)
    stream = hashlib.shake_256(key + f"\0{name}\0{i}".encode())
    if name == "random":
        noise = np.frombuffer(stream.digest(shape.numel()), dtype=np.uint8)
        return (noise / 255 * spec.scaling.divisor).reshape(shape)
    record = np.zeros(shape.numel())
    places = np.frombuffer(stream.digest(8 * LIT), dtype="<u8") % shape.numel()
    record[places.astype(np.int64)] = spec.scaling.divisor
    return record.reshape(shape)
