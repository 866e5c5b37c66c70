"""Which data sets are neighbours: part of every privacy claim."""

from __future__ import annotations

from enum import StrEnum


class Adjacency(StrEnum):
    """The neighbouring relation that (ε, δ) speaks about.

    Under `ADD_OR_REMOVE_ONE` a clipped sum has sensitivity C, under `REPLACE_ONE` 2C;
    events always give the noise in units of C, and only an accountant that knows the
    relation itself may charge it.
    """

    ADD_OR_REMOVE_ONE = "add-or-remove-one"
    REPLACE_ONE = "replace-one"
