"""What two runs published, compared bit for bit; a difference says where it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dpigu.audits.replay.tape import Published
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor


@dataclass(frozen=True)
class Leak:
    """Something published that differs where the releases are equal.

    Args:
        what: its name: a release's part, a public file and when it was read, what was printed.
        detail: which tensor or line differs, and by how much.
    """

    what: str
    detail: str


def leaks(first: Published, second: Published) -> Iterator[Leak]:
    """Everything that differs, in the order in which the first run published it."""
    for what in [*first, *(name for name in second if name not in first)]:
        if what not in first or what not in second:
            yield Leak(what, "published by one of the two runs alone")
        elif detail := _difference(first[what], second[what]):
            yield Leak(what, detail)


def public_files(folder: Path, when: str) -> dict[str, bytes]:
    """Every file of a run's public folder, by name and time."""
    files = sorted(p for p in (folder / "public").rglob("*") if p.is_file())
    return {f"public/{p.relative_to(folder / 'public')}, {when}": p.read_bytes() for p in files}


def _difference(one: Any, other: Any) -> str:
    """In words; empty where nothing differs."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _tensors_differ(one, other)
    if isinstance(one, bytes) and isinstance(other, bytes) and one != other:
        return _bytes_differ(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return "; ".join(f"{leak.what}: {leak.detail}" for leak in leaks(one, other))
    return "" if _same(one, other) else f"{one!r} and {other!r}"[:200]


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or repr(one) == repr(other)  # NaN is NaN here


def _tensors_differ(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{tuple(one.shape)} {one.dtype} and {tuple(other.shape)} {other.dtype}"
    a, b = (t.detach().cpu().contiguous() for t in (one, other))
    if torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)):
        return ""
    apart = int((a != b).sum())
    by = float((a.double() - b.double()).abs().nan_to_num(torch.inf).max())
    return f"{apart} of {a.numel()} entries, by {by:.3g} at most"


def _bytes_differ(one: bytes, other: bytes) -> str:
    tensors = [_tensors_of(content) for content in (one, other)]
    if all(tensors):
        found = "; ".join(f"{leak.what}: {leak.detail}" for leak in leaks(*tensors))
        return found or "what is no tensor in it"
    try:
        lines = [content.decode().splitlines() for content in (one, other)]
    except UnicodeDecodeError:
        return f"{len(one)} and {len(other)} bytes"
    for number, (a, b) in enumerate(zip(*lines, strict=False), start=1):
        if a != b:
            return f"line {number}: {a!r} and {b!r}"[:200]
    return f"{len(lines[0])} and {len(lines[1])} lines"


def _tensors_of(content: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a checkpoint with its digest in front."""
    for body in (content, content.partition(b"\n")[2]):
        try:
            return load(body)
        except SafetensorError:
            continue
    return {}
