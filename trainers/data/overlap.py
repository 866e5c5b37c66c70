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
from dpigu.trainers.data.units import Split
from dpigu.trainers.engines.records import Tree, count_of
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

Fingerprints = NDArray[np.uint64]


WORD = (
    " If they are of different people with equal inputs, say whose each record is (`units`), or "
    "give your word for it (`common_inputs`)."
)


def record_fingerprints(key: bytes, x: Tree) -> Fingerprints:
    """One keyed BLAKE2b of 64 bits a record's input (a tree, N × …), in order."""
    columns = [_rows(v) for v in tree_leaves(x)]
    digests = []
    for i in range(count_of(x)):
        digest = hashlib.blake2b(key=key, digest_size=8)
        for rows in columns:
            digest.update(rows[i])
        digests.append(digest.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def split_fingerprints(key: bytes, data: Data, split: Split) -> Fingerprints:
    """Those of a whole split, read piece by piece; labels do not count.

    Errors: `DataError` for a record that does not fit.
    """
    found = [record_fingerprints(key, x_B) for x_B, _ in data.batches(split)]
    return np.concatenate([np.empty(0, dtype=np.uint64), *found])


def refuse_shared(data: Data, public: Data | None) -> None:
    """An error if a split that counts as public has a record of the training split.

    What is measured on held-out records, or learnt from public ones, is published as it is; on
    a training record that would be a release without noise. How many are shared, and which, is
    not told.

    Whose the records are settles it, where that is known of both splits: no unit may have records
    in both. Else an input stands for a record, and any shared one counts, in any order and with
    any label. Where `common_inputs` are declared, an input stands for nobody among those held out,
    and they are refused only if they are the training split itself, in any order. Public records
    get no such word: stages learn from their gradients as they are. Nor are their units compared:
    ids are numbered for each data set by itself, so there inputs alone count.

    Raises: DataError, for the eyes of whoever runs it: that it is raised depends on the records.
    """
    if data.units is not None and data.units.shared:
        raise DataError(
            "a unit has records in the training and in the held-out split, and nothing would "
            "protect those held out",
            where=data.spec.name,
            remedy="Split by unit before anything else, so that none is on both sides.",
        )
    key = secrets.token_bytes(32)
    own = split_fingerprints(key, data, "training")
    others: list[tuple[str, Data, Split]] = []
    if data.units is None or data.units.test_M is None:
        others.append(("held-out", data, "held-out"))
    if public is not None:
        others.append(("public", public, "training"))
    for name, whose, split in others:
        found = split_fingerprints(key, whose, split)
        if data.spec.common_inputs and whose is data:
            if np.array_equal(np.sort(found), np.sort(own)):
                raise DataError(
                    f"the {name} split is the training split, and nothing would protect it",
                    where=whose.spec.name,
                    remedy="Split by record before anything else.",
                )
        elif np.isin(found, own).any():
            raise DataError(
                f"the {name} split shares records with the training split, by their inputs, and "
                "nothing would protect them",
                where=whose.spec.name,
                remedy="Split by record before anything else."
                + (WORD if whose is data else " Take public records that nobody has to protect."),
            )


def _rows(v_N: Tensor) -> NDArray[np.uint8]:
    """The bytes of every record's values, N × …."""
    flat = v_N.detach().cpu().reshape(len(v_N), -1)
    if flat.is_floating_point():
        flat = flat + 0.0  # −0 is 0
    found: NDArray[np.uint8] = flat.contiguous().view(torch.uint8).numpy()
    return found
