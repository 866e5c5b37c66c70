"""Exit statuses: a user's mistake is 2, a bug 70, an interrupt 130, each with its one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from dpigu.cli.dpigu.main import main
from dpigu.cli.shared.errors import BUG, INTERRUPTED, USER_ERROR, Commands, crashes_reported
from dpigu.dpcore import BudgetError

from tests.support.dpigu_command import dpigu, one_line


def run(body: Callable[[], object]) -> Result:
    """A command whose body is `body`, in a group of ours."""

    @click.group(cls=Commands)
    def group() -> None: ...

    @group.command("go")
    def go() -> None:
        body()

    return CliRunner().invoke(group, ["go"], prog_name="group")


def fails(error: BaseException) -> Callable[[], object]:
    def body() -> None:
        raise error

    return body


def test_success_is_0() -> None:
    result = run(lambda: click.echo("fine"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "fine\n", "")


def test_a_users_mistake_is_one_line_and_2() -> None:
    result = run(fails(BudgetError("too much", where="ε", got=5, expected="at most 4")))
    assert result.exit_code == USER_ERROR == 2
    assert one_line(result) == "error: ε: too much (got 5, expected at most 4)."


def test_a_bug_is_70_and_says_so() -> None:
    result = run(fails(ZeroDivisionError("of the inner thing")))
    assert result.exit_code == BUG == 70
    assert "Traceback" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last == "error: this is a bug in dpigu or in a plugin (ZeroDivisionError)"


def test_the_traceback_of_a_known_run_stays_in_its_private_folder(tmp_path: Path) -> None:
    def body() -> None:
        with crashes_reported(tmp_path):
            raise ZeroDivisionError("record 17")

    result = run(body)
    assert result.exit_code == BUG
    assert str(tmp_path / "crashes.txt") in one_line(result)
    assert "record 17" not in result.stderr
    assert "ZeroDivisionError: record 17" in (tmp_path / "crashes.txt").read_text()


def test_a_users_mistake_in_a_run_leaves_no_crash_report(tmp_path: Path) -> None:
    def body() -> None:
        with crashes_reported(tmp_path):
            raise BudgetError("too much")

    assert run(body).exit_code == USER_ERROR
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130(error: BaseException) -> None:
    result = run(fails(error))
    assert result.exit_code == INTERRUPTED == 130
    assert result.stderr.strip() == "interrupted"


def test_an_interrupt_may_say_how_to_go_on() -> None:
    assert one_line(run(fails(click.Abort("go on with …")))) == "interrupted; go on with …"


def test_an_end_of_file_in_our_code_is_a_bug_and_no_interrupt() -> None:
    assert run(fails(EOFError())).exit_code == BUG


def test_a_command_may_have_its_own_status() -> None:
    assert run(lambda: click.get_current_context().exit(3)).exit_code == 3


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("trian",), "train"),
        (("train", "--epsilno", "4"), "--epsilon"),
        (("train", "--epsilon", "four"), "four"),
        (("train", "--epsilon", "nan"), "not a finite number"),
        (("train", "--epsilon", "inf"), "not a finite number"),
        (("train", "--delta", "1"), "0<x<1"),
        (("train", "--steps", "0"), "x>=1"),
        (("account", "noise", "--delta", "1e-5"), "--epsilon"),
    ],
)
def test_a_mistake_in_the_options_is_one_line_and_2(args: tuple[str, ...], says: str) -> None:
    result = dpigu(*args)
    assert result.exit_code == USER_ERROR
    line = one_line(result)
    assert line.startswith("error: ")
    assert says in line
    assert "--help" in line


def test_without_a_command_it_shows_its_help() -> None:
    result = dpigu()
    assert result.exit_code == USER_ERROR
    assert "dpigu train --preset adadpigu" in result.stderr


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command, by its words."""
    found = [path]
    for name, command in group.commands.items():
        words = (*path, name)
        found += commands(command, words) if isinstance(command, click.Group) else [words]
    return found


@pytest.mark.parametrize("words", commands(main), ids=" ".join)
def test_every_help_has_an_example(words: tuple[str, ...]) -> None:
    result = dpigu(*words, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"    {' '.join(('dpigu', *words))}" in result.stdout


def test_help_and_version_load_nothing_slow() -> None:
    code = (
        "import sys; from dpigu.cli.dpigu.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "slow = {'torch', 'numpy', 'scipy', 'dp_accounting', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {slow}' if slow else status)"
    )
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "0." in done.stdout


def test_a_closed_pipe_ends_in_silence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "from dpigu.cli.dpigu.main import main; main(['account', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
