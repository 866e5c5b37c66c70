"""What the README and the page of composed methods show runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def example(page: str, number: int = 0) -> str:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[number]


def test_the_example_trains_a_private_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example("README.md"), "README.md", "exec"), {})
    accuracy, epsilon = map(float, capsys.readouterr().out.split())
    assert accuracy > 0.85  # three runs gave 94.3 to 94.9%
    assert 3.9 < epsilon <= 4.0
    assert (tmp_path / "runs" / "first" / "public" / "STATEMENT.txt").is_file()


def test_the_composed_method_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    exec(compile(example("docs/compose.md"), "compose.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[-1]) > 0.85


def test_the_plugin_registers_under_its_namespace() -> None:
    from dpigu.audits import check_stage
    from dpigu.dpcore.registry.entries import lookup

    names: dict[str, object] = {"__name__": "stranger"}
    exec(compile(example("docs/compose.md", 1), "compose.md", "exec"), names)
    assert lookup("acme/sign").stage is names["Sign"]
    check_stage(names["Sign"]())


def test_the_readme_takes_two_screens_at_most() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
