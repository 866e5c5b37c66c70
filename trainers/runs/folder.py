"""The run folder: what the claim covers in `public/`, what must stay home in `private/`."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import tomli_w
from dpigu.dpcore import RunError
from dpigu.dpcore.claim import Ledger, read_ledger
from dpigu.trainers.runs import checkpoint, disk
from dpigu.trainers.runs.lock import Lock

FORMAT = 2
"""Of a run folder. The first had no number."""
CONFIGURATION, LEDGER = "config.toml", "ledger.jsonl"
COMMITMENT = "audit-commitment.json"
"""To the plan of an audit; it tells how many canaries were planted, and of what kind."""
SUMMARY, METRICS, LOCK = "summary.json", "metrics.jsonl", "lock"

_version = functools.cache(metadata.version)  # it reads a file each time

PUBLIC = (
    "Everything in this folder is covered by the run's privacy claim (see STATEMENT.txt): it was\n"
    "computed from noised values, public constants and held-out data only, and may be shared.\n"
)
UNCLAIMED = (
    "This run makes no privacy claim: what is in this folder may reveal training records.\n"
    "Share it only as you would share the training data.\n"
)
PRIVATE = (
    "Nothing in this folder is covered by the privacy claim: coins, canary ids, keyed\n"
    "fingerprints, times and error reports depend on the training data. Do not share it.\n"
)


class RunFolder:
    """A run on disk: every file of it is written and read here or in the modules beside this one.

    Args:
        path: the folder; `public/` and `private/` are in it.
    """

    def __init__(self, path: Path) -> None:
        self._settle(Path(path))
        self._lock: Lock | None = None

    def _settle(self, path: Path) -> None:
        self.path = path
        self.public, self.private = path / "public", path / "private"

    @classmethod
    def begin(cls, path: Path, claimed: bool) -> RunFolder:
        """A new run folder, locked, under another name beside `path` until `finish_begin`.

        What a killed start left there is taken away first.

        Raises: RunError if a run is there, or another process starts one.
        """
        path = Path(path)
        refuse_occupied(path)
        folder = cls(path.with_name(f".{path.name}.starting"))
        disk.make_folder(folder.path)
        disk.make_folder(folder.private, disk.PRIVATE_FOLDER)
        folder._lock = Lock(folder.private / LOCK, folder.path)
        try:
            refuse_occupied(path)
            for left in [p for p in folder.path.rglob("*") if p.is_file() and p.name != LOCK]:
                disk.remove(left)
            disk.make_folder(folder.public)
            readme = PUBLIC if claimed else UNCLAIMED
            disk.write_whole(folder.public / "README.txt", readme.encode())
            folder.write_private("README.txt", PRIVATE.encode())
        except BaseException:
            folder.release()
            raise
        return folder

    def finish_begin(self, path: Path) -> None:
        """Give a folder that is whole its name: from here on there is a run to go on with."""
        with disk.told("written", path):
            if path.is_dir():
                path.rmdir()
        disk.rename(self.path, path)
        self._settle(path)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A run folder that is there, to read; an error if it is not."""
        folder = cls(path)
        if not (folder.public / CONFIGURATION).is_file():
            raise RunError(
                "this is no run folder",
                where=str(path),
                expected="a folder that training made, with public/config.toml",
            )
        return folder

    @classmethod
    def locked(cls, path: Path) -> RunFolder:
        """A run folder that is there, to go on with; no other process can until `release`.

        Raises: RunError that names the process which is at work on it.
        """
        folder = cls.existing(path)
        disk.make_folder(folder.private, disk.PRIVATE_FOLDER)
        folder._lock = Lock(folder.private / LOCK, folder.path)
        return folder

    def release(self) -> None:
        """Let another process work on it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_configuration(self, configuration: Mapping[str, Any]) -> str:
        """Write the configuration and the versions that it ran with; its digest."""
        text = tomli_w.dumps({"format": FORMAT, **configuration}).encode()
        disk.write_whole(self.public / CONFIGURATION, text)
        self.write_json("versions.json", versions())
        return hashlib.sha256(text).hexdigest()

    def configuration(self) -> dict[str, Any]:
        """The configuration as it was written, held against the digest in the ledger's head.

        Raises: RunError if it cannot be read, is of another format, or was changed.
        """
        path = self.public / CONFIGURATION
        text = disk.read(path)
        try:
            table = tomllib.loads(text.decode())
        except ValueError as error:
            raise RunError(f"the configuration cannot be read: {error}", where=str(path)) from error
        if (given := table.get("format")) != FORMAT:
            raise RunError(
                "a run folder of another format",
                where=str(path),
                got=given,
                expected=FORMAT,
                remedy="Read it with the version of dpigu that made it (public/versions.json).",
            )
        if hashlib.sha256(text).hexdigest() != self.ledger().head.configuration:
            raise RunError(
                "the configuration was changed after the run began: it is not the one that the "
                "ledger pays for",
                where=str(path),
                remedy="Restore it, or train a new run with it as its `config`.",
            )
        return table

    def ledger(self) -> Ledger:
        """The ledger as it is on the disk; nothing is written.

        Raises: RunError if it is missing or damaged.
        """
        path = self.public / LEDGER
        return read_ledger(disk.read(path), str(path))

    def check(self) -> None:
        """Read all that a run goes on from: its configuration, its ledger and its checkpoint.

        Raises: RunError where any of them is missing or damaged.
        """
        self.configuration()
        checkpoint.read(self.public / checkpoint.FILE, self.ledger())

    def write_json(self, name: str, value: object) -> None:
        """A public JSON file, written whole or not at all; never NaN or Infinity in it."""
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
        disk.write_whole(self.public / name, text.encode())

    def summary(self) -> dict[str, Any]:
        """`public/summary.json`; an error if the run has not finished."""
        path = self.public / SUMMARY
        if not path.is_file():
            raise RunError(
                "this run has not finished",
                where=str(self.path),
                remedy="Resume it, and it finishes.",
            )
        try:
            loaded = json.loads(disk.read(path))
            if not isinstance(loaded, dict):
                raise ValueError("it is no table")
        except ValueError as error:
            raise RunError(f"the summary cannot be read: {error}", where=str(path)) from error
        return loaded

    def canaries(self) -> dict[str, Any] | None:
        """How many canaries were planted for an audit, and their kind; None if none were."""
        path = self.public / COMMITMENT
        if not path.is_file():
            return None
        try:
            told = json.loads(disk.read(path))
            return {name: told[name] for name in ("count", "kind")}
        except (ValueError, KeyError, TypeError) as error:
            raise RunError("the audit's commitment cannot be read", where=str(path)) from error

    def decision(self, step: int, kept: bool) -> None:
        """Add a line about an update that was looked at; the look is released and charged."""
        self._add(self.public / "decisions.jsonl", {"step": step, "kept": kept})

    def metric(self, record: Mapping[str, object]) -> None:
        """Add a line of held-out metrics."""
        self._add(self.public / METRICS, record)

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of held-out metrics; a last one that a crash cut short is left out.

        Raises: RunError for any other line that cannot be read.
        """
        path = self.public / METRICS
        text = disk.read(path).decode(errors="replace") if path.is_file() else ""
        found = []
        for number, line in enumerate(text.rpartition("\n")[0].splitlines(), start=1):
            try:
                found.append({"step": json.loads(line)["step"], **json.loads(line)})
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    "the metrics cannot be read", where=f"{path}, line {number}"
                ) from error
        return found

    def note_privately(self, name: str, record: Mapping[str, object]) -> None:
        """Add a line to a private file: times, memory, diagnostics."""
        line = json.dumps(record) + "\n"
        disk.append(self.private / name, line.encode(), disk.PRIVATE_FILE)

    def write_private(self, name: str, data: bytes) -> None:
        """A private file, written whole, that nobody else on the machine can read."""
        disk.write_whole(self.private / name, data, disk.PRIVATE_FILE)

    def _add(self, path: Path, record: Mapping[str, object]) -> None:
        disk.append(path, (json.dumps(record, allow_nan=False) + "\n").encode())


def refuse_occupied(path: Path) -> None:
    """An error if something is where a new run folder is wanted."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise RunError(
            "a run is there already",
            where=str(path),
            remedy="Give another `out`, `resume` the run that is there, or delete it.",
        )


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("dpigu", "torch", "numpy", "scipy", "dp-accounting", "prv-accountant")
    return {"python": platform.python_version(), **{n: _version(n) for n in names}}


def printable(text: str) -> str:
    """A name from a folder with its control characters spelled out: it forges no line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
