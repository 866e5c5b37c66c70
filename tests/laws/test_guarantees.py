"""Every test that the documents name exists, so that no guarantee loses its test unnoticed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("guarantees.md", "theory.md")


def missing(text: str) -> list[str]:
    """The names `tests/…py::test_…` of a document that no file of that name defines."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    named += [("tests/laws/test_paper.py", name) for name in re.findall(r"`(test_\w+)`", text)]
    return [f"{path}::{name}" for path, name in named if not defines(ROOT / path, name)]


def defines(path: Path, name: str) -> bool:
    return path.is_file() and f"def {name}(" in path.read_text()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_named_in_the_documents_exists(document: str) -> None:
    text = (ROOT / "docs" / document).read_text()
    assert text.count("::test_") + text.count("`test_") > 5
    assert missing(text) == []


def test_every_law_named_in_the_documents_exists() -> None:
    laws = "".join(p.read_text() for p in (ROOT / "tests").rglob("*.py"))
    named = set(re.findall(r"`(law_\w+)`", (ROOT / "docs" / "guarantees.md").read_text()))
    assert len(named) > 10
    assert [name for name in sorted(named) if f"def {name}(" not in laws] == []


def test_a_name_that_does_not_exist_is_found() -> None:
    assert missing("`tests/laws/test_types.py::test_nothing`") == [
        "tests/laws/test_types.py::test_nothing"
    ]
