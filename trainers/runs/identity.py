"""What a folder cannot hold, by name or digest: model, loss, optimizer and, privately, data."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from dpigu.dpcore import Ranks, RunError
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.data.units import Split
from dpigu.trainers.distributed import check_same as check_same_on_all
from dpigu.trainers.distributed import kind_of, whole
from dpigu.trainers.engines.records import Tree
from dpigu.trainers.runs import disk
from dpigu.trainers.runs.folder import RunFolder
from torch import nn
from torch.utils._pytree import tree_leaves

FILE = "identity.json"


def name_of_callable(thing: object) -> str:
    """A loss or a factory by its name, with the options that show in its attributes.

    A function goes by module and name: what is written in it is not looked at.
    """
    if isinstance(thing, functools.partial):
        given = [name_of_callable(a) if callable(a) else repr(a) for a in thing.args]
        given += [f"{k}={v!r}" for k, v in thing.keywords.items()]
        return f"{name_of_callable(thing.func)}({', '.join(given)})"
    if hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    options = {k: v for k, v in vars(thing).items() if k != "training" and not k.startswith("_")}
    told = ", ".join(f"{k}={v!r}" for k, v in sorted(_plain(options).items()))
    return f"{type(thing).__module__}.{type(thing).__qualname__}({told})"


def described(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer as plain data: its class, and the options of its groups."""
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    name = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    return {"name": name, "groups": [_plain(group) for group in groups]}


def structure_of(model: nn.Module) -> str:
    """A digest of what a model is made of: modules, shapes, what is trained, frozen weights."""
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    tensors = [
        (name, tuple(t.shape), str(t.dtype), name in trained)
        for name, t in (*model.named_parameters(), *model.named_buffers())
    ]
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(model)) + repr(tensors)
    for sharded in {type(m).__name__: kind_of(m).__name__ for m in model.modules()}.items():
        text = re.sub(rf"\b{sharded[0]}\(", f"{sharded[1]}(", text)
    digest = hashlib.sha256(text.encode())
    for _, frozen in filter(lambda named: named[0] not in trained, model.named_parameters()):
        flat = whole(frozen.detach()).cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fingerprints(key: bytes, data: Data, public: Data | None) -> dict[str, str]:
    """Keyed fingerprints of all records in order, and of the public ones."""
    both: tuple[Split, ...] = ("training", "held-out")
    own = _fingerprint(key, [data.batches(split) for split in both])
    if data.units is not None:
        own += _fingerprint(key, (iter([torch.from_numpy(ids)]) for _, ids in data.units.splits))
    others = [] if public is None else [public.batches("training")]
    return {"data": own, "public": _fingerprint(key, others)}


def remember_data(folder: RunFolder, data: Data, public: Data | None) -> None:
    """Keep keyed fingerprints of the records in `private/`, to know them again."""
    key = secrets.token_bytes(32)
    told = {"key": key.hex(), **_fingerprints(key, data, public)}
    folder.write_private(FILE, (json.dumps(told) + "\n").encode())


def check_ranks(ranks: Ranks, data: Data, public: Data | None) -> None:
    """An error on a rank that has other records than the first: a record of two slots counts twice.

    Raises: RunError.
    """
    if ranks.size > 1:
        key = ranks.agreed(lambda: secrets.token_bytes(32))
        check_same_on_all(ranks, "data set", _fingerprints(key, data, public))


def check_data(folder: RunFolder, data: Data, public: Data | None) -> None:
    """An error if these are not the records that the run began with.

    Raises: RunError that says which of them differ.
    """
    path = folder.private / FILE
    try:
        told = json.loads(disk.read(path))
        found = _fingerprints(bytes.fromhex(told["key"]), data, public)
        expected = {name: told[name] for name in ("data", "public")}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError("the fingerprints of the data cannot be read", where=str(path)) from error
    for name, digest in found.items():
        if digest != expected[name]:
            raise RunError(
                f"these are not the {'public ' if name == 'public' else ''}records that the run "
                "began with",
                where=str(folder.path),
                remedy="Give the same ones, in the same order, or train a new run.",
            )


def check_same(what: str, got: object, expected: object, folder: RunFolder) -> None:
    """An error if something that is given anew differs from what the configuration recorded."""
    if got != expected:
        raise RunError(
            f"the run began with another {what}",
            where=str(folder.path),
            got=got,
            expected=expected,
            remedy="Give the same, or train a new run.",
        )


def _fingerprint(key: bytes, splits: Iterable[Iterator[Tree]]) -> str:
    """Of every record's inputs and targets in order, read piece by piece."""
    digest = hashlib.blake2b(key=key, digest_size=32)
    for batches in splits:
        digest.update(b"split;")
        for tensor in (leaf for batch in batches for leaf in tree_leaves(batch)):
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that are numbers, words, or lists of these."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, (bool, int, float, str)):
            found[key] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value):
            found[key] = list(value)
    return found
