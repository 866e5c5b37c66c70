"""Every command and option is in help once, in its section."""

from __future__ import annotations

from collections import Counter

import pytest
from click import Context
from dpigu.cli.dpaudit.main import main as dpaudit
from dpigu.cli.dpigu.main import main as dpigu
from dpigu.cli.shared.errors import Commands
from dpigu.cli.shared.sections import OPTIONS, sections

ROWS = {name: (name, "help") for name in ("b", "a", "c")}


def test_sections_keep_the_tables_order_and_nothing_is_lost() -> None:
    found = list(sections(ROWS, {"two": ("c", "missing"), "one": ("a",), "none": ()}, "rest"))
    assert found == [("two", [ROWS["c"]]), ("one", [ROWS["a"]]), ("rest", [ROWS["b"]])]


def test_no_name_is_in_two_sections() -> None:
    for by in (OPTIONS, dpigu.by, dpaudit.by):
        assert max(Counter(name for names in by.values() for name in names).values()) == 1


@pytest.mark.parametrize("program", [dpigu, dpaudit], ids=["dpigu", "dpaudit"])
def test_help_shows_every_command_under_a_title(program: Commands) -> None:
    context = Context(program, info_name="program")
    text = program.get_help(context)
    assert all(f"\n  {name} " in text for name in program.list_commands(context))
    assert all(f"\n{title}:\n" in text for title in program.by)


def test_a_long_command_shows_every_option_in_a_section() -> None:
    train = dpigu.commands["train"]
    text = train.get_help(Context(train, info_name="train"))
    assert all(f"\n{title}:\n" in text for title in OPTIONS)
    assert all(p.opts[0] in text for p in train.params)
    assert "\nOptions:\n" in dpigu.commands["explain"].get_help(Context(dpigu.commands["explain"]))
