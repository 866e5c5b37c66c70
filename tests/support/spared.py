"""What most tests need not wait for: a flush to the disk, and the drawing of a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from matplotlib.figure import Figure

STAND_IN = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<svg></svg>"}
"""What is written in a picture's place, by its format."""


def _not_drawn(
    figure: Figure, file: str | os.PathLike[str] | IO[Any], *, format: str | None = None, **_: Any
) -> None:
    """Takes the place of `Figure.savefig`: the figure is composed and not rendered."""
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        path.write_bytes(STAND_IN[format or path.suffix.removeprefix(".")])
    else:
        picture = STAND_IN[format or "png"]
        file.write(picture.decode() if format == "svg" else picture)


def _not_flushed(file: int) -> None:
    """Takes the place of `os.fsync`, for a file that is open."""
    os.fstat(file)


@contextmanager
def spared(item: pytest.Item) -> Iterator[None]:
    """No flushes and no drawing while this test and its fixtures run, but where it is about them.

    The markers `flushes` and `pictures` say so.
    """
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("flushes") is None:
            patch.setattr(os, "fsync", _not_flushed)
        if item.get_closest_marker("pictures") is None:
            patch.setattr(Figure, "savefig", _not_drawn)
        yield
