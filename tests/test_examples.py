"""Every public name has an example, in its docstring or docs/examples, that gives what it says."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest

import dpigu

ROOT = Path(__file__).resolve().parents[1]


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False, exclude_empty=True)
    found = []
    for name in sorted({*dpigu.__all__} - {"__version__"}):
        public = getattr(dpigu, name)
        module = sys.modules.get(getattr(public, "__module__", ""))
        if module is not None and callable(public):
            found += finder.find(public, name, module=module, globs={**vars(module)})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name)
def test_an_example_gives_what_it_says(test: doctest.DocTest) -> None:
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.attempted and not result.failed


PAGES = sorted(path.stem for path in (ROOT / "docs" / "examples").glob("*.md"))


@pytest.fixture(name="pages")
def the_pages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    import examples

    return examples


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_the_reference_give_what_they_say(
    page: str, pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {name: pages.checked(page, name) for name in pages.examples(page)}
    assert found and all(result.attempted for result in found.values())
    assert [name for name, result in found.items() if result.failed] == []


def test_every_public_name_has_an_example(pages) -> None:
    shown = {name for page in PAGES for name in pages.examples(page)}
    assert {*dpigu.__all__} - {"__version__"} == shown | {test.name for test in examples()}
    assert not shown & {test.name for test in examples()}


def test_an_example_that_is_wrong_or_stands_twice_is_found(
    pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    begin, one = "```pycon\n>>> x = 1\n```\n", "\n## One\n\n```pycon\n>>> x + 1\n3\n```\n"
    (tmp_path / "mutant.md").write_text(begin + one)
    assert pages.checked("mutant", "One").failed == 1
    pages.write("mutant")
    assert pages.checked("mutant", "One").failed == 0
    (tmp_path / "mutant.md").write_text(begin + one + one)
    with pytest.raises(ValueError, match="twice"):
        pages.examples("mutant")
