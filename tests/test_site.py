"""The site has every page and every public name, and no page leads to a file that is not there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")]
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
MADE = re.compile(r"^(?:\.\./)*reference/[\w-]+\.md$")
"""What only the site has: pages made from the code."""


def broken(page: Path) -> list[str]:
    """The links of a page that lead to no file of a plain checkout."""
    links = LINK.findall(page.read_text())
    return [link for link in links if not (MADE.match(link) or (page.parent / link).exists())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    assert broken(page) == []


WRITTEN = re.compile(
    r"^```.*?^```|^<!-- (\w+): begin -->.*?^<!-- \1: end -->|^<!--.*?-->", re.DOTALL | re.MULTILINE
)
"""What is no prose: code, and what a command writes between its marks."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_wrapped(page: Path) -> None:
    long = [
        line
        for line in WRITTEN.sub("", page.read_text()).splitlines()
        if len(line) > 112 and not re.match(r"\s*(?:\||!\[|\[\w+\]: )|    ", line)
    ]
    assert long == []


def test_the_architecture_names_files_that_are_there() -> None:
    page = (DOCS / "architecture.md").read_text()
    rooms = "dpcore|mechanisms|accountants|trainers|audits|cli|dpigu|tests|docs"
    named = re.findall(rf"`((?:{rooms})/[\w/.]+)`", page)
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_has_its_place_in_the_navigation() -> None:
    placed = re.findall(
        r"^\s+- (?:[^:\n]+: )?([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M
    )
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    pages -= {page for page in pages if page.startswith("examples/")}
    assert len(placed) == len(set(placed))
    assert pages - set(placed) == set()


def test_the_reference_has_every_public_name_and_an_undocumented_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    griffe = pytest.importorskip("griffe", reason="the extra docs is not installed")
    if not (ROOT / ".links").is_dir():
        pytest.skip("`make .links/dpigu` makes the folder that the reference is read from")
    monkeypatch.syspath_prepend(str(DOCS / "hooks"))
    import reference

    from dpigu import __all__ as public

    text = "".join(reference.pages(ROOT).values())
    assert set(re.findall(r"heading: (\w+)", text)) == set(public) - {"__version__"}
    names = {"Bare": griffe.Class("Bare")}
    monkeypatch.setattr(reference, "public_names", lambda root: names)
    with pytest.raises(ValueError, match="without a docstring: Bare"):
        reference.pages(ROOT)
    names["Bare"].docstring = griffe.Docstring("Says what it is.")
    monkeypatch.setattr(reference, "_part", lambda found: "errors")
    with pytest.raises(ValueError, match="without an example: Bare"):
        reference.pages(ROOT)
    sys.modules.pop("reference")
