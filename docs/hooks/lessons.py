"""Runs the lessons: the code cells of every notebook in order, and looks at what they print.

python docs/hooks/lessons.py [--write] [PAGE…]

Without `--write` a lesson must run, and have an output wherever it prints. With it the outputs in
the page and the pictures beside it become those of this run. Without names, all lessons run that
need none of the extras.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path

from notebooks import BLOCK, LEARN, notebook
from notebooks import lessons as pages

EXTRA = "<!-- extra:"
"""What the page of a lesson has that needs an extra."""


def run(page: Path, *, write: bool) -> None:
    """Run a lesson in a folder of its own.

    Errors: `ValueError` where a block prints and the page shows no output, or the other way
    round; whatever a block raises.
    """
    module = types.ModuleType(f"lesson_{page.stem}")
    sys.modules[module.__name__] = module  # where dataclasses look for their own module
    outputs = []
    with _folder() as here:
        for cell in (cell for cell in notebook(page)["cells"] if cell["cell_type"] == "code"):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(cell["source"], str(page), "exec"), module.__dict__)
            outputs.append(printed.getvalue())
            shown = any(output["output_type"] == "stream" for output in cell["outputs"])
            if not write and bool(outputs[-1]) != shown:
                raise ValueError(
                    f"{page.name}: its output is not that of this block:\n{cell['source']}"
                )
        if write:
            page.write_text(_with_outputs(page.read_text(), outputs))
            for picture in here.glob("*.png"):
                shutil.copy(picture, page.parent / "pictures")


def _with_outputs(text: str, outputs: list[str]) -> str:
    left = iter(outputs)

    def block(found: re.Match[str]) -> str:
        output, picture = next(left), found["picture"]
        return (
            f"```python\n{found['code']}```\n"
            + (f"\n```text\n{output}```\n" if output else "")
            + (f"\n![{found['words']}]({picture})\n" if picture else "")
        )

    return BLOCK.sub(block, text)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def main() -> None:
    """Run the lessons that are named, or all that need no extra."""
    os.environ["MPLBACKEND"] = "agg"  # no window, as a notebook opens none
    names = [name for name in sys.argv[1:] if name != "--write"]
    every = [page for page in pages() if EXTRA not in page.read_text()]
    for page in [LEARN / name for name in names] or every:
        began = time.monotonic()
        run(page, write="--write" in sys.argv)
        print(f"{page.name:<12} {time.monotonic() - began:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
