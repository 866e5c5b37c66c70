"""The table of mutants: a broken stage, the check that must reject it, and what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dpigu.dpcore import register

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class StageMutant:
    """A broken stage.

    Args:
        cls: its class; made with its default options.
        kind: what it is registered as, or None to leave it unregistered.
        by: the check that rejects it.
        says: a part of the message's first line.
        beside: names of other classes of the table that stand beside it in the pipeline.
    """

    cls: type
    kind: str | None
    by: str
    says: str
    beside: tuple[type, ...] = ()

    @property
    def id(self) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.cls.__name__).lower()

    def stage(self) -> Any:
        """The stage, registered under a name of its own if it has a kind."""
        if self.kind is not None:
            register(self.kind, f"mutant/{self.id}")(self.cls)
        return self.cls()


MUTANTS: list[StageMutant] = []
TWINS: list[tuple[str, str, type]] = []


def broken(
    kind: str | None, *, by: str, says: str, beside: tuple[type, ...] = ()
) -> Callable[[C], C]:
    """Put a class into the table."""

    def add(cls: C) -> C:
        MUTANTS.append(StageMutant(cls, kind, by, says, beside))
        return cls

    return add


def twin(kind: str, name: str) -> Callable[[C], C]:
    """Put a correct stage beside the table, for the kinds that are rare among the built-in ones."""

    def add(cls: C) -> C:
        TWINS.append((kind, name, cls))
        return cls

    return add


def register_twins() -> None:
    """Register the correct stages, for one test."""
    for kind, name, cls in TWINS:
        register(kind, name)(cls)
