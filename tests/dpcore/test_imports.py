"""Imports point one way, only the command line speaks of flags, two files mint. By the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "dpcore": set(),
    "mechanisms": {"dpcore"},
    "accountants": {"dpcore"},
    "trainers": {"dpcore", "mechanisms", "accountants"},
    "audits": {"dpcore", "mechanisms", "accountants", "trainers"},
    "cli": {"dpcore", "mechanisms", "accountants", "trainers", "audits", "dpigu"},
    "dpigu": {"dpcore", "mechanisms", "accountants", "trainers", "audits", "cli"},
}
MINTS = {"dpcore/kernel.py", "dpcore/grammar/spaces.py"}


def sources() -> list[Path]:
    return sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported(source: str, package: str) -> Iterator[str]:
    """The packages of ours that a source imports, at any depth, by statement or by name."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "dpigu":
            names = [f"dpigu.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"dpigu.{package}"] if node.level else [node.module or ""]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                names = [str(node.args[0].value)]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "dpigu":
                room = rest.partition(".")[0]
                if room != "names":  # what any room may read
                    yield room if room in MAY_IMPORT else "dpigu"


def violations(source: str, package: str) -> set[str]:
    return set(imported(source, package)) - MAY_IMPORT[package] - {package}


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_an_import_never_points_the_other_way(path):
    assert violations(path.read_text(), path.relative_to(ROOT).parts[0]) == set()


def test_every_package_is_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in sources()} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    "source",
    [
        "import dpigu.mechanisms",
        "import dpigu.mechanisms.presets.dpsgd as m",
        "from dpigu import mechanisms",
        "from dpigu.mechanisms.presets.dpsgd import dpsgd",
        "def late():\n    from dpigu.mechanisms import Flat",
        "import importlib\nimportlib.import_module('dpigu.mechanisms.presets.dpsgd')",
        "if True:\n    __import__('dpigu.mechanisms')",
    ],
)
def test_a_planted_import_is_found(source):
    assert violations(source, "dpcore") == {"mechanisms"}
    assert violations(source, "trainers") == set()


FLAG = re.compile(r"(?<![\w;{(-])--[a-z{]|(?<!var)\(--[a-z{]")
"""A command-line flag; a variable of a style sheet is none."""


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if path.relative_to(ROOT).parts[0] != "cli"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_only_the_command_line_speaks_of_flags(path):
    assert FLAG.findall(path.read_text()) == []


@pytest.mark.parametrize(
    "text", ['"--set {x}"', "or --data-dir", "`--seed`", "(--out)", "--{x} on"]
)
def test_a_planted_flag_is_found(text):
    assert FLAG.search(text)


def names_mint(source: str) -> bool:
    return "_MINT" in source


def test_only_the_kernel_and_the_spaces_name_the_right_to_mint():
    named = {str(p.relative_to(ROOT)) for p in sources() if names_mint(p.read_text())}
    assert named == MINTS
