"""Checkpoints: released values only, so they are public; and never any generator's state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from dpigu.dpcore import RunError
from dpigu.dpcore.claim import Ledger
from dpigu.dpcore.grammar.bound_pipeline import States
from dpigu.trainers.distributed import all_whole
from dpigu.trainers.runs import disk
from safetensors import SafetensorError
from safetensors.torch import load as safe_load
from safetensors.torch import save
from torch import Tensor

FILE = "checkpoint"
INITIAL = "initial/"
"""In front of the initial weights' names, for a later phase that starts from them."""


class Checkpoint(NamedTuple):
    """Where a run stands: phase and next step, weights, stage states of every phase so far."""

    phase: int
    step: int
    weights: Mapping[str, Tensor]
    states: tuple[States, ...]
    optimizer: Mapping[str, Any]


def gathered(point: Checkpoint, *, keep: bool) -> Checkpoint:
    """The same with all of every tensor that is sharded over ranks, where it is to be kept."""
    entries: dict[int, dict[str, Any]] = {}
    for index, entry in sorted(point.optimizer["state"].items()):
        tensors = {key: value for key, value in entry.items() if torch.is_tensor(value)}
        entries[index] = {**entry, **all_whole(tensors, keep=keep)}
    weights = all_whole(point.weights, keep=keep)
    return point._replace(weights=weights, optimizer={**point.optimizer, "state": entries})


def write(path: Path, point: Checkpoint, ledger: Ledger) -> None:
    """Replace the checkpoint: the SHA-256 of the rest as the first line, then a safetensors file.

    It names its run and the ledger's last line, so that a ledger which lost lines is found out.
    """
    paid = {"lines": ledger.lines, "digest": ledger.digest}
    body = encoded(point, {"run": ledger.head.run, "ledger": paid})
    disk.write_whole(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def encoded(point: Checkpoint, told: Mapping[str, Any]) -> bytes:
    """A checkpoint as a safetensors file; what is no tensor stands in its metadata."""
    tensors = {f"weights/{name}": t for name, t in point.weights.items()}
    for i, states in enumerate(point.states):
        for stage, state in states.items():
            tensors |= {f"states/{i}/{stage}\t{key}": t for key, t in state.items()}
    plain: dict[str, Any] = {}
    for index, entry in point.optimizer["state"].items():
        for key, value in entry.items():
            if torch.is_tensor(value):
                tensors[f"optimizer/{index}\t{key}"] = value
            else:
                plain[f"{index}\t{key}"] = value
    head = {
        **told,
        "phase": point.phase,
        "step": point.step,
        "stages": [list(states) for states in point.states],
        "optimizer": plain,
        "optimizer_name": point.optimizer.get("name"),
    }
    return save(
        {k: t.detach().cpu().clone().contiguous() for k, t in tensors.items()},
        {"checkpoint": json.dumps(head)},
    )


def read(path: Path, ledger: Ledger) -> bytes:
    """The safetensors file of a checkpoint, held against its digest and its ledger.

    Raises: RunError where it is missing, damaged, of another run, or knows more of the ledger
        than there is.
    """
    digest, _, body = disk.read(path).partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise RunError(
            "the checkpoint is damaged: it is not what its digest says",
            where=str(path),
            remedy="Restore the run folder whole.",
        )
    try:
        _check_ledger(path, _head(body), ledger)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError("the checkpoint cannot be read", where=str(path)) from error
    return body


def fitting(path: Path, body: bytes, start: Checkpoint, device: torch.device) -> Checkpoint:
    """The checkpoint of a run, held against the shapes it must have.

    Args:
        body: what `read` gave.
        start: the run before its first step: its weights' and optimizer's shapes count, and its
            parameter groups are taken.

    Raises: RunError for a checkpoint that cannot be read, or is of another model.
    """
    try:
        point = decoded(body, start, device)
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError("the checkpoint cannot be read", where=str(path)) from error
    held = {name: point.weights.get(name) for name in start.weights}
    check_shapes(path, "weights", held, start.weights)
    return point


def decoded(body: bytes, start: Checkpoint, device: torch.device) -> Checkpoint:
    """The inverse of `encoded`, with the parameter groups of `start`."""
    head = _head(body)
    weights: dict[str, Tensor] = {}
    states: list[dict[str, dict[str, Tensor]]] = [
        {s: {} for s in names} for names in head["stages"]
    ]
    entries: dict[int, dict[str, Any]] = {}
    for name, stored in safe_load(body).items():
        kind, _, rest = name.partition("/")
        # an optimizer takes its state to its parameters itself, but for its count of steps,
        # which it wants on the host
        tensor = stored if kind == "optimizer" else stored.to(device)
        if kind == "weights":
            weights[rest] = tensor
        elif kind == "states":
            phase, _, where = rest.partition("/")
            stage, _, key = where.partition("\t")
            states[int(phase)][stage][key] = tensor
        else:
            index, _, key = rest.partition("\t")
            entries.setdefault(int(index), {})[key] = tensor
    for where, value in head["optimizer"].items():
        index, _, key = where.partition("\t")
        entries.setdefault(int(index), {})[key] = value
    state_dict = {
        "name": head.get("optimizer_name"),
        "state": entries,
        "param_groups": start.optimizer["param_groups"],
    }
    return Checkpoint(head["phase"], head["step"], weights, tuple(states), state_dict)


def check_shapes(
    path: Path, what: str, got: Mapping[str, Tensor | None], expected: Mapping[str, Tensor]
) -> None:
    """An error if a stored tensor is missing, or of another shape than the run's own."""
    for name in sorted(got.keys() | expected.keys()):
        here, there = _shape(got.get(name)), _shape(expected.get(name))
        if here != there:
            raise RunError(
                f"the checkpoint does not fit the run: {what} {name}",
                where=str(path),
                got=here,
                expected=there,
            )


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"


def _head(body: bytes) -> dict[str, Any]:
    """The head of a safetensors file."""
    size = int.from_bytes(body[:8], "little")
    head: dict[str, Any] = json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["checkpoint"])
    return head


def _check_ledger(path: Path, head: Mapping[str, Any], ledger: Ledger) -> None:
    if head["run"] != ledger.head.run:
        raise RunError(
            "the checkpoint is of another run than the ledger beside it", where=str(path)
        )
    lines, digest = head["ledger"]["lines"], head["ledger"]["digest"]
    if lines > ledger.lines or ledger.digests[lines - 1] != digest:
        raise RunError(
            "the ledger lacks lines that were there when the checkpoint was made",
            where=ledger.where,
            got=f"{ledger.lines} lines",
            expected=f"at least {lines}, the last of them as the checkpoint knows it",
            remedy="Restore the run folder whole; ε would be too small.",
        )
