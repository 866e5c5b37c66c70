"""The tests of a plugin load the core, the stages and the checks: no trainer, no other audit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PARTS = (
    "import dpigu.audits.conformance",
    "import dpigu.audits.conformance.suite",
    "from dpigu import Flat, check_stage, checks_for, parametrize_with_checks",
    "stage = Flat(bound=1.0); checks_for(stage)[0](stage)",
)
TRAINER = "from dpigu import train"
PLUGIN = """
import json, sys
for part in json.loads(sys.argv[1]):
    exec(part)
    print(json.dumps([part, sorted(n for n in sys.modules if n.startswith("dpigu.trainers"))]))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """The trainer's modules that are there after each part, in one process that runs them all."""
    parts = json.dumps([*PARTS, TRAINER])
    done = subprocess.run(
        [sys.executable, "-c", PLUGIN, parts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("part", PARTS)
def test_the_room_and_a_check_need_no_trainer(part: str, loaded: dict[str, list[str]]) -> None:
    assert loaded[part] == []


def test_a_loaded_trainer_is_noticed(loaded: dict[str, list[str]]) -> None:
    assert "dpigu.trainers" in loaded[TRAINER]
