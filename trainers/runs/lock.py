"""One process works in a folder at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dpigu.dpcore import RunError
from dpigu.trainers.runs.disk import PRIVATE_FILE, told


class Lock:
    """An exclusive lock on a file, held until it is released or the process ends.

    A copy of the folder is another file, and its lock is free.

    Args:
        path: the lock file; made if missing, and it names the holder.
        folder: what it guards, for the error.

    Raises: RunError that names the holder, if another process has it.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        with told("written", path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._file, 100, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise RunError(
                f"another process is at work in this folder: {holder or 'it gives no name'}",
                where=str(folder),
                remedy="Wait until it has ended, or stop it.",
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._file)
