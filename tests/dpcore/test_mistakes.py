"""A common mistake names its place in the documentation, which is there."""

from __future__ import annotations

import re
from pathlib import Path

from dpigu.dpcore.errors import DpiguError
from dpigu.dpcore.mistakes import ANCHORS, PAGE, place_of

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("dpcore", "mechanisms", "accountants", "trainers", "audits", "cli")


def test_twenty_mistakes_and_more_have_a_heading_each_and_no_heading_is_without_one() -> None:
    heads = re.findall(r"^## (.+)$", (ROOT / PAGE).read_text(), re.MULTILINE)
    anchors = [re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads]
    assert set(anchors) == set(ANCHORS.values()) and len(anchors) == len(set(anchors)) >= 20


def test_every_mistake_is_raised_somewhere() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    source = "".join(path.read_text() for path in files if path.name != "mistakes.py")
    assert [words for words in ANCHORS if words not in source] == []


def test_a_message_ends_with_its_place() -> None:
    error = DpiguError("a run is there already", where="runs/a", remedy="Give another `out`.")
    assert str(error).endswith("Give another `out`. See docs/mistakes.md#a-folder-that-is-taken.")
    assert place_of("something else") == "" and "See" not in str(DpiguError("something else"))
