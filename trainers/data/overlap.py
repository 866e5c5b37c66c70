"""Whether two splits share records, by fingerprints under a key that nobody else has.

A plain hash of a record is a membership test for whoever holds the hash, so every fingerprint is
keyed: with a key drawn here and forgotten, or one that is kept in a private file.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
import torch
from dpigu.dpcore.errors import DataError
from dpigu.trainers.data.dataset import Data
from numpy.typing import NDArray
from torch import Tensor


def record_fingerprints(key: bytes, x: Tensor) -> NDArray[np.uint64]:
    """One keyed BLAKE2b of 64 bits a record's input, in order; labels do not count."""
    if not len(x):
        return np.empty(0, dtype=np.uint64)
    x_N = (x.detach().cpu().reshape(len(x), -1) + 0.0).contiguous()  # −0 is 0
    rows = x_N.view(torch.uint8).numpy()
    digests = b"".join(hashlib.blake2b(row, key=key, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def refuse_shared(data: Data, public: Data | None) -> None:
    """An error if a split that counts as public has a record of the training split.

    What is measured on held-out records, or learnt from public ones, is published as it is; on
    a training record that would be a release without noise. Any shared input counts, in any
    order and with any label; how many there are, and which, is not told.

    Raises: DataError, for the eyes of whoever runs it: that it is raised depends on the records.
    """
    key = secrets.token_bytes(32)
    own = record_fingerprints(key, data.train_x)
    others = {"held-out": (data.spec.name, data.test_x)}
    if public is not None:
        others["public"] = (public.spec.name, public.train_x)
    for split, (name, x) in others.items():
        if np.isin(record_fingerprints(key, x), own).any():
            raise DataError(
                f"the {split} split shares records with the training split, and nothing would "
                "protect them",
                where=name,
                remedy="Split by record before anything else, so that none is on both sides.",
            )
