"""`dpigu stages`: every stage is listed and shown, and a broken plugin takes none down."""

from __future__ import annotations

import dataclasses
import inspect
from importlib import metadata
from typing import Any

import pytest
from dpigu.dpcore.registry import entries as registry
from dpigu.dpcore.registry.entries import entries

from tests.support.dpigu_command import dpigu, dpigu_json, one_line, strict_json


@pytest.fixture
def broken_plugin(monkeypatch: pytest.MonkeyPatch) -> str:
    """A distribution whose stage cannot be imported."""
    real = registry._installed
    point = metadata.EntryPoint("acme/broken", "no_such_module_of_acme:Stage", registry.GROUP)

    def with_broken(search_path: Any) -> list[metadata.EntryPoint]:
        return [*real(search_path), point]

    monkeypatch.setattr(registry, "_installed", with_broken)
    return point.name


def test_the_list_holds_every_entry_point_with_its_kind() -> None:
    found = dpigu_json("stages")
    assert all(set(stage) == {"kind", "name", "distribution"} for stage in found)
    names = {stage["name"] for stage in found}
    assert names >= {p.name for p in metadata.entry_points(group=registry.GROUP)}
    assert {"kind": "clipper", "name": "flat", "distribution": "dpigu"} in found


def test_the_text_has_a_line_for_each_stage() -> None:
    lines = dpigu("stages").stdout.splitlines()
    assert [line.split()[1] for line in lines] == [s["name"] for s in dpigu_json("stages")]


def test_a_broken_plugin_is_named_and_the_others_are_listed(broken_plugin: str) -> None:
    result = dpigu("stages", "--json")
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert broken_plugin in result.stderr
    assert "flat" in {stage["name"] for stage in strict_json(result.stdout)}
    shown = dpigu("stages", "show", broken_plugin)
    assert shown.exit_code == 2
    assert "does not load" in one_line(shown)
    assert dpigu("stages", "show", "flat").exit_code == 0


@pytest.mark.parametrize("entry", entries()[0], ids=lambda entry: entry.name)
def test_a_stage_shows_its_documentation_and_every_option(entry: registry.Entry) -> None:
    shown = dpigu_json("stages", "show", entry.name)
    assert (shown["kind"], shown["distribution"]) == (entry.kind, entry.distribution)
    assert shown["documentation"] == inspect.getdoc(entry.stage)
    fields = dataclasses.fields(entry.stage)
    assert [option["name"] for option in shown["options"]] == [f.name for f in fields]
    for field, option in zip(fields, shown["options"], strict=True):
        assert option["type"]
        assert option["required"] == (field.default is dataclasses.MISSING)
    text = dpigu("stages", "show", entry.name).stdout
    assert text.startswith(f"{entry.name}, a {entry.kind}, from {entry.distribution}\n")
    assert all(field.name in text for field in fields)


def test_an_unknown_stage_is_a_users_error_with_the_nearest_name() -> None:
    result = dpigu("stages", "show", "top-kk")
    assert result.exit_code == 2
    assert "top-k" in one_line(result)
