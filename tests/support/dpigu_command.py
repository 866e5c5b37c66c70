"""How the tests call `dpigu`: in this process, with its output apart from its errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from click.testing import CliRunner, Result
from dpigu.cli.dpigu.main import main

TINY = ("--data", "digits", "--model", "linear", "--batch", "60", "--accountant", "rdp")
"""A run that costs little: 650 coordinates, 60 records a step."""


def dpigu(*args: object) -> Result:
    """Run `dpigu` with these arguments."""
    return CliRunner().invoke(main, [str(arg) for arg in args], prog_name="dpigu")


def dpigu_json(*args: object) -> Any:
    """What `dpigu … --json` prints, read strictly."""
    result = dpigu(*args, "--json")
    assert result.exit_code == 0, result.stderr
    return strict_json(result.stdout)


def strict_json(text: str) -> Any:
    """JSON without the NaN and Infinity that Python would let pass."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def train(out: Path, *args: object, steps: int = 3) -> Result:
    """A tiny DP-SGD run into `out` that must succeed."""
    result = dpigu(
        *("train", "--preset", "dpsgd", *TINY, "--steps", steps, "--noise-multiplier", 1),
        *("--out", out, *args),
    )
    assert result.exit_code == 0, result.stderr
    return result


def one_line(result: Result) -> str:
    """The single line of an error, and nothing on standard output."""
    lines: Sequence[str] = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert result.stdout == ""
    return lines[0]
