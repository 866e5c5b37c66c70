"""What stands under "Next" are commands that the programs take, of the design that is advised."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from dpigu.audits.advice import Advice, crafted_gradients, mechanism, more_canaries, more_trainings
from dpigu.cli.dpaudit.main import main as dpaudit
from dpigu.cli.dpaudit.next_steps import after_run, elsewhere
from dpigu.cli.dpigu.main import main as dpigu

GRADIENTS = crafted_gradients(60, 1500, 10**5, 0.95)
assert GRADIENTS is not None
TRAININGS = more_trainings(4.0, 1e-5, 0.95)
FEW, MODELS = more_canaries(1.0, 1e-5, 0.95), more_canaries(4.5, 1e-5, 0.95)


def parsed(line: str) -> dict[str, Any]:
    """What a command's options come to, as the programs read them."""
    program, *words = shlex.split(line)
    command: click.Command = {"dpigu": dpigu, "dpaudit": dpaudit}[program]
    context = click.Context(command)
    while isinstance(command, click.Group):
        inner = command.get_command(context, words[0])
        assert inner is not None, line
        command, words = inner, words[1:]
    return command.make_context(command.name, words, parent=context).params


@pytest.mark.parametrize("advice", [GRADIENTS, TRAININGS, mechanism()], ids=lambda a: a.design)
def test_a_run_s_next_steps_are_commands_of_the_advised_design(
    advice: Advice, tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    steps = after_run(run, 4.0, tmp_path / "data", True)(advice)
    first = parsed(steps[0])
    config = run / "public" / "config.toml"
    if advice.design == "mechanism":
        assert first["what"] == str(config)
        return
    assert first["config"] == config and first["trust_code"]
    assert first["out"] != run and first["out"].parent == tmp_path
    if advice.design == "trainings":
        assert (first["trials"], first["claim_epsilon"]) == (advice.count, 4.0)
    else:
        assert (first["canaries"], first["canary_kind"]) == (advice.count, "gradient")
        assert parsed(steps[1])["run_folder"] == first["out"]


def test_a_folder_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / "a-gradients").mkdir()
    steps = after_run(tmp_path / "a", None, None, False)(GRADIENTS)
    assert parsed(steps[0])["out"] == tmp_path / "a-gradients-2"
    assert "--trust-code" not in steps[0] and "--data-dir" not in steps[0]


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("advice", [FEW, MODELS, mechanism()], ids=lambda a: a.design)
def test_next_steps_elsewhere_are_commands_of_the_advised_design(
    advice: Advice, text: bool
) -> None:
    steps = elsewhere(4.5, 1e-5, 0.95, text)(advice)
    found = [parsed(step) for step in steps]
    if advice.design == "canaries":
        assert found[0]["canaries"] == advice.count and found[0]["out"] == found[1]["folder"]
        assert (found[0]["target"] is None) is text and found[1]["claim_epsilon"] == 4.5
    if advice.design == "models":
        assert found[0]["members"] + found[0]["non_members"] == advice.count
        assert found[0]["false_positives"] == found[0]["false_negatives"] == 0
