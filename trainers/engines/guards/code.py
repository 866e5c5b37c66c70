"""Code as it stands: which of it is installed, and which globals it names."""

from __future__ import annotations

import functools
import sys
import types

_OURS = __name__.partition(".")[0]


def global_names(code: types.CodeType) -> set[str]:
    """The global names that code and the code within it uses."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return names


@functools.cache
def is_installed(name: str | None) -> bool:
    """Whether a module comes with Python, with an installed package or with this project."""
    if name is None:
        return False
    root = name.partition(".")[0]
    if root in sys.stdlib_module_names or root == _OURS:
        return True
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file
