"""`dpigu plugin new`: a package for every kind of stage, whose stage conforms as it is written."""

from __future__ import annotations

import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from dpigu.audits import check_stage
from dpigu.cli.dpigu.plugin.examples import EXAMPLES
from dpigu.dpcore.grammar.stages import KINDS
from dpigu.dpcore.registry.entries import lookup

from tests.support.depth import DEEP
from tests.support.dpigu_command import dpigu, one_line


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == set(KINDS)


@pytest.mark.deep
@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_stage_passes_the_conformance_suite(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder = f"made-{kind}", tmp_path / "package"
    result = dpigu("plugin", "new", name, "--kind", kind, "--out", folder)
    assert result.exit_code == 0, result.stderr
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    ((stage, where),) = project["project"]["entry-points"]["dpigu.stages"].items()
    monkeypatch.syspath_prepend(str(folder))
    module, _, cls = where.partition(":")
    made = getattr(import_module(module), cls)
    try:
        entry = lookup(stage)
        assert (entry.stage, entry.kind, entry.name) == (made, kind, f"made/{kind}")
        if DEEP or kind == "row":
            check_stage(made())
        for path in folder.rglob("*.py"):
            compile(path.read_text(), str(path), "exec")
    finally:
        for loaded in [m for m in sys.modules if m.startswith(f"made_{kind}")]:
            del sys.modules[loaded]


@pytest.mark.parametrize("name", ["acme", "Acme-x", "acme-", "../acme-x", "acme x"])
def test_a_name_without_a_namespace_is_one_line(name: str, tmp_path: Path) -> None:
    result = dpigu("plugin", "new", name, "--out", tmp_path / "package")
    assert result.exit_code == 2 and "acme-careful" in one_line(result)
    assert not (tmp_path / "package").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = dpigu("plugin", "new", "acme-x", "--out", tmp_path)
    assert result.exit_code == 2 and "not empty" in one_line(result)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
