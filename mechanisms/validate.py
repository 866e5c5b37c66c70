"""The one check that every stage makes of its options."""

from __future__ import annotations

from dpigu.dpcore import GrammarError
from dpigu.dpcore.grammar.stages import name_of


def require(holds: bool, stage: object, option: str, expected: str) -> None:
    """An error that names the stage, the option, its value and the range, unless `holds`."""
    if not holds:
        raise GrammarError(
            "an option is out of range",
            where=f"{name_of(stage)}.{option}",
            got=getattr(stage, option),
            expected=expected,
        )
