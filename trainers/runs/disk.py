"""Files that survive a crash: written whole by renaming or appended, flushed, with one error each.

Every operation of a run folder on the disk is in this module, so that a test can stand in for the
operating system here (`tests/crash`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpigu.dpcore import RunError

PUBLIC_FILE, PRIVATE_FILE = 0o644, 0o600
PUBLIC_FOLDER, PRIVATE_FOLDER = 0o755, 0o700

_REMEDIES = {
    "written": "What was charged stays charged; mend it and go on with the run.",
    "made": "Mend it and start again, or name another folder.",
}


@contextmanager
def told(verb: str, path: Path) -> Iterator[None]:
    """The machine's refusals as one error that names the file: a full disk, no permission, …"""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"it cannot be {verb}: {error.strerror or error}",
            where=str(path),
            remedy=_REMEDIES.get(verb, ""),
        ) from error


def read(path: Path) -> bytes:
    """A file's bytes.

    Raises: RunError if it is missing or cannot be read.
    """
    with told("read", path):
        return path.read_bytes()


def write_whole(path: Path, data: bytes, mode: int = PUBLIC_FILE) -> None:
    """Write a file by renaming, flushed: a crash leaves the old one or the new one."""
    new = path.with_name(path.name + ".new")
    with told("written", path):
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            os.fchmod(file, mode)
            _all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(new, path)
        flush_folder(path.parent)


def append(path: Path, data: bytes, mode: int = PUBLIC_FILE, *, flush: bool = False) -> None:
    """Add to a file's end; what was cut short there before is cut off, unless it is to be kept.

    Args:
        flush: keep what is there, and return only when all of it is on the disk.
    """
    with told("written", path):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
        try:
            size = os.fstat(file).st_size
            if not flush and size and os.pread(file, 1, size - 1) != b"\n":
                size = os.pread(file, size, 0).rfind(b"\n") + 1
                os.ftruncate(file, size)
            try:
                _all(file, data)
                if flush:
                    os.fsync(file)
            except OSError:
                os.ftruncate(file, size)  # half a line of what was not done helps nobody
                raise
        finally:
            os.close(file)


def make_folder(path: Path, mode: int = PUBLIC_FOLDER) -> None:
    """A folder, with the ones above it; it may be there already."""
    with told("made", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            os.mkdir(path, mode)


def remove(path: Path) -> None:
    """Take a file away."""
    with told("removed", path):
        os.unlink(path)


def rename(old: Path, new: Path) -> None:
    """Give a folder its name, flushed with all that is in it."""
    with told("written", new):
        for folder in (*(p for p in old.rglob("*") if p.is_dir()), old):
            flush_folder(folder)
        os.rename(old, new)
        flush_folder(new.parent)


def flush_folder(path: Path) -> None:
    """Put the names in a folder onto the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _all(file: int, data: bytes) -> None:
    """Write all of it: the system may take less at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
