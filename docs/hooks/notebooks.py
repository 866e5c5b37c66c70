"""A lesson as a notebook: its text, its code, and what the code printed and drew.

python docs/hooks/notebooks.py FOLDER

A lesson has one source, its page. The notebook's cells are the page's parts in their order, so what
`lessons.py` runs is what the reader of the notebook runs.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEARN = Path(__file__).resolve().parents[1] / "learn"
BLOCK = re.compile(
    r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?"
    r"(?:\n!\[(?P<words>[^\]]*)\]\((?P<picture>[^)]+)\)\n)?",
    re.DOTALL,
)
"""Code, what it printed, and the picture that it drew: each follows the one before."""
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)\s]+)\)")
MARK = re.compile(r"<!--.*?-->\n?", re.DOTALL)
HEAD = (
    "*This notebook is the lesson `docs/learn/{name}.md` of dpigu, and needs dpigu in the "
    "environment of its kernel. Its outputs are those of the page; noise cannot be repeated, so "
    "yours differ in the last digits.*\n"
)
Cell = dict[str, Any]


def lessons() -> list[Path]:
    """The pages that have code."""
    return [page for page in sorted(LEARN.glob("*.md")) if BLOCK.search(page.read_text())]


def notebook(page: Path) -> dict[str, Any]:
    """A page as a notebook in format 4.5.

    Errors: `FileNotFoundError` for a picture that is not there.
    """
    cells = [_text(HEAD.format(name=page.stem)), *_cells(page)]
    for number, cell in enumerate(cells):
        cell["id"] = f"{page.stem}-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cells(page: Path) -> Iterator[Cell]:
    text, end = page.read_text(), 0
    for number, block in enumerate(BLOCK.finditer(text), 1):
        if before := _prose(text[end : block.start()]):
            yield _text(before)
        yield _code(block, number, page.parent)
        end = block.end()
    if after := _prose(text[end:]):
        yield _text(after)


def _prose(text: str) -> str:
    """Markdown that stands by itself: links to other pages say where these are."""
    return LINK.sub(r"\1 (`\2`)", MARK.sub("", text)).strip()


def _text(source: str) -> Cell:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(block: re.Match[str], number: int, folder: Path) -> Cell:
    outputs: list[dict[str, Any]] = []
    if block["output"]:
        outputs.append({"output_type": "stream", "name": "stdout", "text": block["output"]})
    if block["picture"]:
        image = base64.b64encode((folder / block["picture"]).read_bytes()).decode()
        data = {"image/png": image, "text/plain": block["words"]}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    return {
        "cell_type": "code",
        "metadata": {},
        "execution_count": number,
        "outputs": outputs,
        "source": block["code"].removesuffix("\n"),
    }


def written(page: Path) -> str:
    """The file's text."""
    return json.dumps(notebook(page), ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Write every lesson's notebook into a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for page in lessons():
        (folder / f"{page.stem}.ipynb").write_text(written(page))


if __name__ == "__main__":
    main()
