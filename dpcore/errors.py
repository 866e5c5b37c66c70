"""Errors that say what is wrong, where, both values and the remedy, and carry the objects.

A user's mistake is a `DpiguError`; the command line prints its one line and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from dpigu.dpcore.mistakes import place_of


class DpiguError(Exception):
    """A mistake that the user can mend: one line, with the offending objects attached.

    Args:
        problem: what is wrong, as one sentence without a full stop.
        where: the object, option or file that is wrong, as the user knows it.
        got: the offending value, kept as an attribute.
        expected: what would have been right, kept as an attribute.
        remedy: what to do about it, as one sentence.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str = "",
        got: object = None,
        expected: object = None,
        remedy: str = "",
    ) -> None:
        self.problem = problem
        self.where = where
        self.got = got
        self.expected = expected
        self.remedy = remedy
        super().__init__(self._line())

    def _line(self) -> str:
        values = [
            f"{label} {_short(value)}"
            for label, value in (("got", self.got), ("expected", self.expected))
            if value is not None
        ]
        line = f"{self.where}: {self.problem}" if self.where else self.problem
        if values:
            line += f" ({', '.join(values)})"
        line = f"{line}. {self.remedy}".strip() if self.remedy else f"{line}."
        return f"{line} See {place}." if (place := place_of(self.problem)) else line


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy that says which known name is nearest to this one; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]}?" if near else ""


def _short(value: object, limit: int = 160) -> str:
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


class GrammarError(DpiguError):
    """A pipeline or plan that does not follow the grammar."""


class PrivacyError(DpiguError):
    """Something that would break the guarantee, stopped by the kernel."""


class RegistryError(DpiguError):
    """An unknown, duplicate, misnamed or broken stage."""


class ConfigurationError(DpiguError):
    """A configuration that cannot be read."""


class AccountingError(DpiguError):
    """An event or target that an accountant cannot handle."""


class BudgetError(DpiguError):
    """A step that would pass the privacy budget."""


class DataError(DpiguError):
    """Data of the wrong shape, range or place."""


class ModelError(DpiguError):
    """A model that cannot be trained one record at a time."""


class RunError(DpiguError):
    """A run folder that exists, is missing or cannot be read."""
