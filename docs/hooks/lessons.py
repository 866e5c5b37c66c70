"""Runs the lessons: every block of Python in order, page by page, with what it prints beside it.

python docs/hooks/lessons.py [--write] [PAGE…]

Without `--write` a lesson must run, and have an output wherever it prints. With it the outputs in
the page and the pictures beside it become those of this run.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

LEARN = Path(__file__).resolve().parents[1] / "learn"
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?", re.DOTALL)


def run(page: Path, *, write: bool) -> None:
    """Run a lesson in a folder of its own.

    Errors: `ValueError` where a block prints and the page shows no output, or the other way
    round; whatever a block raises.
    """
    text, module = page.read_text(), types.ModuleType(f"lesson_{page.stem}")
    sys.modules[module.__name__] = module  # where dataclasses look for their own module

    def ran(block: re.Match[str]) -> str:
        code, shown = block["code"], block["output"]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), module.__dict__)
        output = printed.getvalue()
        if not write and bool(output) != bool(shown):
            raise ValueError(f"{page.name}: its output is not that of this block:\n{code}")
        return f"```python\n{code}```\n" + (f"\n```text\n{output}```\n" if output else "")

    with _folder() as here:
        text = BLOCK.sub(ran, text)
        if write:
            page.write_text(text)
            for picture in here.glob("*.png"):
                shutil.copy(picture, page.parent / "pictures")


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
    """Run the lessons that are named, or all of them."""
    names = [name for name in sys.argv[1:] if name != "--write"]
    pages = [LEARN / name for name in names] or sorted(LEARN.glob("*.md"))
    for page in pages:
        print(page.name, flush=True)
        run(page, write="--write" in sys.argv)


if __name__ == "__main__":
    main()
