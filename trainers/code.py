"""A user's own code by name: `module:factory`, found as `import module` finds it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from dpigu.dpcore.errors import DpiguError


def names_code(name: str) -> bool:
    """Whether a name of data or of a model means code, and neither a file nor one of ours."""
    return ":" in name and not name.endswith((".npz", ".csv", ".parquet"))


def imported(name: str, what: str, error_type: type[DpiguError]) -> Callable[..., object]:
    """The factory that a name means; the working folder is looked in last.

    Args:
        name: `module:factory`.
        what: it makes, for errors.
        error_type: of the error if it cannot be imported or called.
    """
    module, _, attribute = name.partition(":")
    if (folder := os.getcwd()) not in sys.path:
        sys.path.append(folder)
    try:
        factory: object = getattr(importlib.import_module(module), attribute)
    except (ImportError, SyntaxError, AttributeError, TypeError, ValueError) as error:
        raise error_type(
            f"the {what}'s factory cannot be imported: {error}",
            where=name,
            remedy="Give it as module:factory, importable from the working folder.",
        ) from error
    if not callable(factory):
        raise error_type(f"the {what}'s factory is not callable", where=name, got=type(factory))
    return factory
