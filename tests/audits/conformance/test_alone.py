"""The tests of a plugin load the core, the stages and the checks: no trainer, no other audit."""

from __future__ import annotations

import subprocess
import sys

import pytest

PLUGIN = """
import sys
from dpigu import {names}
{uses}
rooms = {{name for name in sys.modules if name.startswith("dpigu.trainers")}}
sys.exit(f"loaded {{sorted(rooms)}}" if rooms else 0)
"""
CHECKS = (
    "Flat, check_stage, checks_for, parametrize_with_checks",
    "stage = Flat(bound=1.0); checks_for(stage)[0](stage)",
)


def loaded(names: str, uses: str) -> subprocess.CompletedProcess[str]:
    code = PLUGIN.format(names=names, uses=uses)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_a_check_runs_without_the_trainer() -> None:
    done = loaded(*CHECKS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("names", ["dpigu.audits.conformance", "dpigu.audits.conformance.suite"])
def test_the_room_itself_needs_no_trainer(names: str) -> None:
    done = loaded("Flat", f"import {names}")
    assert done.returncode == 0, done.stderr


def test_a_loaded_trainer_is_noticed() -> None:
    assert "dpigu.trainers" in loaded("train", "").stderr
