"""What MkDocs calls: pages made from the code, and links that leave docs/."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import notebooks
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
"""The file that a link leads to."""
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""The pages beside docs/ that are part of the site, under their own names."""
TABLES = {"<!-- settings -->": reference.settings_table, "<!-- stages -->": reference.stages_tables}
"""What stands in a page for a table that is made from the code."""

BUTTON = "\n\n[Open as a notebook]({name}.ipynb){{ .md-button download={name}.ipynb }}\n\n"
"""What a lesson has below its title."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference, the lessons' notebooks, the pages beside docs/, and what pages link to."""
    made = {**reference.pages(ROOT), "reference/commands.md": commands.page()}
    for name in PAGES:
        made[name] = _each_link((ROOT / name).read_text(), _within)
    for page in notebooks.lessons():
        made[f"learn/{page.stem}.ipynb"] = notebooks.written(page)
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    for page in [page for page in files if page.src_uri.endswith(".md")]:
        for link in LINK.findall(page.content_string):
            target = _from_root(page.src_uri, link)
            if _is_source(target) and files.get_file_from_path(f"source/{target}") is None:
                path = str(ROOT / target)
                files.append(File.generated(config, f"source/{target}", abs_src_path=path))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Fill in the tables, and let links out of docs/ lead to the copies within the site."""
    for mark, table in TABLES.items():
        if mark in markdown:
            markdown = markdown.replace(mark, table(ROOT))
    if (DOCS / page.file.src_uri) in notebooks.lessons():
        markdown = markdown.replace("\n\n", BUTTON.format(name=Path(page.file.src_uri).stem), 1)
    return _each_link(markdown, lambda link: _inside(page.file.src_uri, link))


def _each_link(text: str, change: Callable[[str], str]) -> str:
    return LINK.sub(lambda link: change(link[1]), text)


def _inside(page: str, link: str) -> str:
    """A page's link, to the copy where it leads out of docs/."""
    target = _from_root(page, link)
    if not (_is_source(target) or target in PAGES):
        return link
    copy = target if target in PAGES else f"source/{target}"
    return posixpath.relpath(copy, posixpath.dirname(page) or ".")


def _from_root(page: str, link: str) -> str:
    """Where a page's link leads, from the repository's root."""
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))


def _is_source(target: str) -> bool:
    return not target.startswith(("docs/", "..")) and target not in PAGES


def _within(link: str) -> str:
    """A link of a page beside docs/, as the page has it within."""
    return posixpath.relpath(link, "docs")
