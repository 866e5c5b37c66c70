"""What docs/data.md shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dpigu.trainers.tasks import TASKS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text()


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(example, "data.md", "exec"), names)
    rmse, r2 = map(float, capsys.readouterr().out.splitlines()[0].split())
    assert rmse > 0 and r2 <= 1


def test_the_page_knows_every_task() -> None:
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == set(TASKS)
