"""The examples of public names: a page of them for each page of the reference.

python docs/hooks/examples.py PART…

writes into those pages what their examples give now. A page begins with what all its examples
share; below, every example stands under the public name that it is for, and runs by itself.
"""

from __future__ import annotations

import contextlib
import doctest
import functools
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "examples"
BLOCK = re.compile(r"```pycon\n(.*?)```", re.DOTALL)
SECTION = re.compile(r"^## (\w+)\n\n```pycon\n(.*?)```", re.DOTALL | re.MULTILINE)


def parts() -> list[str]:
    """The pages that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.md"))


def shared(part: str) -> str:
    """What the examples of a page begin with."""
    found = BLOCK.search((FOLDER / f"{part}.md").read_text())
    assert found is not None
    return found[1]


def examples(part: str) -> dict[str, str]:
    """Each example of a page by the public name that it is for.

    Errors: `ValueError` for a name that stands there twice.
    """
    found = SECTION.findall((FOLDER / f"{part}.md").read_text())
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise ValueError(f"{part}.md has a name twice")
    return dict(found)


@functools.cache
def _prepared(part: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": f"examples_{part}"}
    with contextlib.redirect_stdout(io.StringIO()):
        for example in doctest.DocTestParser().get_examples(shared(part)):
            exec(compile(example.source, part, "single"), names)
    return names


def checked(part: str, name: str) -> doctest.TestResults:
    """Run an example after what its page shares, in the folder where one is."""
    test = doctest.DocTestParser().get_doctest(
        examples(part)[name], dict(_prepared(part)), f"{part}: {name}", f"{part}.md", 0
    )
    return doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)


def _written(block: str, names: dict[str, Any]) -> str:
    """A block with what its examples print now."""
    lines = []
    for example in doctest.DocTestParser().get_examples(block):
        source = example.source.splitlines()
        lines += [f">>> {source[0]}", *(f"... {line}".rstrip() for line in source[1:])]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example.source, "example", "single"), names)
        now, before = printed.getvalue(), example.want
        same = doctest.OutputChecker().check_output(before, now, doctest.ELLIPSIS)
        lines += (before if same else now).splitlines()
    return "\n".join(lines) + "\n"


def write(part: str) -> None:
    """Write into a page what its examples give now; an output that still fits stays."""

    def section(found: re.Match[str]) -> str:
        try:
            block = _written(found[2], dict(_prepared(part)))
        except Exception as error:
            print(f"{part}: {found[1]} is left as it was: {error!r}", file=sys.stderr)
            block = found[2]
        return f"## {found[1]}\n\n```pycon\n{block}```"

    path = FOLDER / f"{part}.md"
    path.write_text(SECTION.sub(section, path.read_text()))


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Within a folder of its own, which is gone afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield
        finally:
            os.chdir(before)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for page in sys.argv[1:]:
        with elsewhere():
            write(page)
