"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def python_examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_example_trains_a_private_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(python_examples()[0], "README.md", "exec"), {})
    accuracy, epsilon = map(float, capsys.readouterr().out.split())
    assert accuracy > 0.85  # three runs gave 94.3 to 94.9%
    assert 3.9 < epsilon <= 4.0
    assert (tmp_path / "runs" / "first" / "public" / "STATEMENT.txt").is_file()


def test_the_composed_method_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    exec(compile(python_examples()[1], "README.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[-1]) > 0.85  # the README says what runs gave


def test_the_plugin_registers_under_its_namespace() -> None:
    from dpigu.audits import check_stage
    from dpigu.dpcore.registry.entries import lookup

    names: dict[str, object] = {"__name__": "stranger"}
    exec(compile(python_examples()[2], "README.md", "exec"), names)
    assert lookup("acme/sign").stage is names["Sign"]
    check_stage(names["Sign"]())
