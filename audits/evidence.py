"""Evidence on disk: what is damaged supports no verdict, what is private is its owner's alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dpigu.dpcore import DpiguError, RunError


class EvidenceError(DpiguError):
    """Evidence that cannot support a verdict: an audit that meets it is invalid."""


def read_evidence(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises: EvidenceError for a damaged file, RunError for one that cannot be read.
    """
    try:
        loaded = json.loads(path.read_text())
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise EvidenceError("the file of the audit's plan is damaged", where=str(path)) from error
    if not isinstance(loaded, dict):
        raise EvidenceError("the file of the audit's plan is damaged", where=str(path))
    return loaded


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole, which its owner alone may read (mode 0600)."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)
