"""A disk that can lose what was not flushed, cut a write short and fill up.

It stands in for `os` in `dpigu.trainers.runs.disk`. Every operation is done on the real disk too,
so the run reads what it wrote; beside that the layer keeps what a power cut would leave.

Two namespaces (names → files) and two contents (bytes) of every file are kept: as the process sees
them, and as they are on the platter. `fsync` of a file moves its bytes, `fsync` of a folder moves
the names in it. Nothing else does: a name that was given by `replace` may be lost until then.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Image = Literal["kept", "dropped", "torn"]
"""After a kill all writes are there; after a power cut the flushed ones, or half of the rest."""
CHANGES = ("write", "fsync", "replace", "rename", "mkdir", "unlink", "ftruncate", "create")


@dataclass
class File:
    """A file's bytes, as the process sees them and as they are on the platter."""

    seen: bytes = b""
    safe: bytes = b""


@dataclass
class FileLayer:
    """Stands in for the module `os`, below one folder.

    Args:
        root: what lies outside is left to the real system.
        full_at: from this operation on, counted from 0, writes find the disk full.
        before_each: told before every operation, with half of it done if it is a write: what the
            layer's images are then is what a crash there would leave.
    """

    root: Path
    full_at: int | None = None
    before_each: Callable[[], None] = lambda: None
    done: int = 0
    refused: int = 0
    names: dict[Path, File] = field(default_factory=dict)
    safe_names: dict[Path, File] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=set)
    open_files: dict[int, Path] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def image(self, kind: Image) -> dict[Path, bytes]:
        """What is on the disk afterwards: bytes by path, relative to the root."""
        names = self.names if kind == "kept" else self.safe_names
        found: dict[Path, bytes] = {}
        for path, file in names.items():
            data = file.seen if kind == "kept" else file.safe
            if kind == "torn" and file.seen.startswith(file.safe):
                data = file.seen[: (len(file.safe) + len(file.seen)) // 2]
            found[path.relative_to(self.root)] = data
        return found

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        path = Path(path)
        if flags & os.O_CREAT and path not in self.names:
            self._count("create")
            self.names[path] = File()
        file = os.open(path, flags, mode)
        if flags & os.O_TRUNC:
            self.names[path] = File(b"", self.names[path].safe)
        self.open_files[file] = path
        return file

    def close(self, file: int) -> None:
        self.open_files.pop(file, None)
        os.close(file)

    def write(self, file: int, data: Any) -> int:
        data, middle = bytes(data), len(data) // 2
        self._put(file, data[:middle])
        if self.full_at is not None and self.done >= self.full_at:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._count("write")
        self._put(file, data[middle:])
        return len(data)

    def fsync(self, file: int) -> None:
        self._count("fsync")
        path = self.open_files[file]
        if path in self.names:
            self.names[path].safe = self.names[path].seen
        else:
            self.safe_names = {p: f for p, f in self.safe_names.items() if p.parent != path}
            self.safe_names |= {p: f for p, f in self.names.items() if p.parent == path}
        os.fsync(file)

    def ftruncate(self, file: int, size: int) -> None:
        self._count("ftruncate")
        held = self.names[self.open_files[file]]
        held.seen = held.seen[:size]
        os.ftruncate(file, size)

    def replace(self, old: Path, new: Path) -> None:
        self._count("replace")
        self.names[new] = self.names.pop(old)
        os.replace(old, new)

    def rename(self, old: Path, new: Path) -> None:
        """Of a folder: its files are renamed with it, and the platter learns at once or never."""
        self._count("rename")
        for names in (self.names, self.safe_names):
            moved = {p: f for p, f in names.items() if old in p.parents}
            for path, file in moved.items():
                del names[path]
                names[new / path.relative_to(old)] = file
        os.rename(old, new)

    def unlink(self, path: Path) -> None:
        self._count("unlink")
        self.names.pop(path, None)
        os.unlink(path)

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        self._count("mkdir")
        os.mkdir(path, mode)

    def _put(self, file: int, data: bytes) -> None:
        self.names[self.open_files[file]].seen += data
        os.write(file, data)

    def _count(self, what: str) -> None:
        assert what in CHANGES
        self.before_each()
        self.done += 1


def laid_out(image: dict[Path, bytes], root: Path) -> Path:
    """Put an image onto the real disk."""
    for path, data in image.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root
