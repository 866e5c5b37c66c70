"""The laws of `folder_laws`, on the code as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash import folder_laws

LAWS = {
    name: law
    for name, law in vars(folder_laws).items()
    if name.startswith("law_") and law.__module__ == folder_laws.__name__
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_the_law_holds(law: Callable[[Path], None], tmp_path: Path) -> None:
    law(tmp_path / "run")
