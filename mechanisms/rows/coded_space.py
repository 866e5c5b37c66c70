"""The space of coded rows: it remembers where they came from, so that a post map leads back."""

from __future__ import annotations

from dataclasses import dataclass

from dpigu.dpcore import GrammarError, Space
from dpigu.dpcore.grammar.stages import name_of


@dataclass(frozen=True)
class Coded(Space):
    """A space of K coordinates that stand for a vector of another space.

    Args:
        home: the space of that vector, of length D.
    """

    home: Space


def home_of(space: Space, stage: object) -> Space:
    """The space that coded rows came from; a `GrammarError` if these are not coded."""
    if not isinstance(space, Coded):
        raise GrammarError(
            "there is nothing to lead back from: no row map has coded these rows",
            where=name_of(stage),
            got=f"rows of {space.size} coordinates: {', '.join(space.names)}",
            expected="the rows of the row map that it reads",
            remedy="Put that row map among the rows, and this post map in its place.",
        )
    return space.home
