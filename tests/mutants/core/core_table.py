"""What a bug planted in the core is: a function, the edits that plant it, the law that stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from hypothesis.strategies import SearchStrategy

Law = Callable[..., None]


@dataclass(frozen=True)
class KernelMutant:
    """A bug, the function that has it, the edits that plant it, and the law that stops it.

    Args:
        cases: what the law is drawn on; a law with an `out` gets a folder instead.
    """

    bug: str
    owner: type | ModuleType
    function: str
    edits: tuple[tuple[str, str], ...]
    law: Law
    cases: dict[str, SearchStrategy[Any]] = field(default_factory=dict)
