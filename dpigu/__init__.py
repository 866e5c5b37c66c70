"""dpigu: differentially private training from composable, property-tested stages.

The public names of all packages, loaded when they are first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

_PACKAGES = ("dpcore", "mechanisms", "accountants", "trainers", "audits")
_HOME = Path(__file__).resolve().parent.parent


def _check_shadowing() -> None:
    """Fail if another package on the path hides one of ours."""
    for name in _PACKAGES:
        found = importlib.util.find_spec(name)
        ours = _HOME / name / "__init__.py"
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin != ours:
            raise ImportError(
                f"another package hides dpigu's {name!r}: found {origin}, expected {ours}. "
                "Run from another folder, or rename or uninstall the other package."
            )


_check_shadowing()


def __getattr__(name: str) -> Any:
    for package in _PACKAGES:
        module = importlib.import_module(package)
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"dpigu has no {name!r}; see dir(dpigu) for its public names.")


def __dir__() -> list[str]:
    return sorted({n for p in _PACKAGES for n in importlib.import_module(p).__all__})
