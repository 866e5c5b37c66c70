"""Checkpoints: released values only, so they are public; and never any generator's state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from dpigu.dpcore import RunError
from dpigu.dpcore.bound_pipeline import States
from dpigu.trainers.runs.folder import write_whole
from safetensors.torch import load_file, save_file
from torch import Tensor


class Checkpoint(NamedTuple):
    """Where a run stands: phase and next step, weights, stage states of every phase so far."""

    phase: int
    step: int
    weights: Mapping[str, Tensor]
    states: tuple[States, ...]
    optimizer: Mapping[str, Any]


def save(path: Path, point: Checkpoint) -> None:
    """Write a checkpoint: the tensors first, then the file that names them."""
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
    path.mkdir(exist_ok=True)
    name = f"{point.phase}-{point.step}.safetensors"
    save_file({k: t.detach().cpu().clone().contiguous() for k, t in tensors.items()}, path / name)
    stages = [list(states) for states in point.states]
    head = {
        "phase": point.phase,
        "step": point.step,
        "tensors": name,
        "stages": stages,
        "optimizer": plain,
    }
    write_whole(path / "head.json", json.dumps(head, indent=2) + "\n")
    for old in path.glob("*.safetensors"):
        if old.name != name:
            old.unlink()


def load(path: Path, start: Checkpoint, device: torch.device) -> Checkpoint:
    """The last checkpoint, or `start` if there is none.

    The parameter groups are those of `start`, so that a changed learning rate takes effect.
    """
    if not (path / "head.json").is_file():
        return start
    head = json.loads((path / "head.json").read_text())
    try:
        tensors = load_file(path / head["tensors"], device=str(device))
    except (OSError, ValueError) as error:
        raise RunError(f"the checkpoint cannot be read: {error}", where=str(path)) from error
    weights: dict[str, Tensor] = {}
    states: list[dict[str, dict[str, Tensor]]] = [
        {s: {} for s in names} for names in head["stages"]
    ]
    entries: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
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
    state_dict = {"state": entries, "param_groups": start.optimizer["param_groups"]}
    return Checkpoint(head["phase"], head["step"], weights, tuple(states), state_dict)
