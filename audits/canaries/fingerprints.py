"""Keyed fingerprints: they join an audit to the very canaries and data that training saw.

HMAC-SHA256 under the plan's key; a plain hash would itself be a membership test.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from typing import Any

import torch
from dpigu.audits.canaries.kinds import KINDS, canary_records
from dpigu.trainers import Data
from torch import Tensor


def fingerprints_of(
    kind: str, key: bytes, data: Data, ids: Sequence[int], labels: Sequence[int]
) -> tuple[str, ...]:
    """HMAC-SHA256 of (place, own label or None, label given, record) of each canary."""
    if kind == "gradient":
        return tuple(_mac(key, [i, kind], b"") for i in ids)
    x_m, _ = canary_records(KINDS[kind], key, ids, labels, data)
    own = data.train_y[list(ids)].tolist() if KINDS[kind].from_data else [None] * len(ids)
    shape = list(data.spec.shape)
    return tuple(
        _mac(key, [i, base, given, shape], _bytes(x))
        for i, base, given, x in zip(ids, own, labels, x_m, strict=True)
    )


def _mac(key: bytes, head: list[Any], content: bytes) -> str:
    return hmac.digest(key, json.dumps(head).encode() + b"\0" + content, "sha256").hex()


def data_fingerprint(key: bytes, data: Data) -> str:
    """HMAC-SHA256 of the training split: shape, records, labels."""
    digest = hmac.new(key, json.dumps(list(data.train_x.shape)).encode() + b"\0", "sha256")
    for x in torch.split(data.train_x, 1000):
        digest.update(_bytes(x))
    digest.update(_bytes(data.train_y))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    array = tensor.cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
