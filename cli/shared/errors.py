"""Exit statuses: a mistake of the user (2), a bug of ours (70), an interrupt (130)."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from dpigu.cli.shared.output import printable
from dpigu.cli.shared.sections import SectionedGroup

USER_ERROR = 2
BUG = 70
INTERRUPTED = 130
BROKEN_PIPE = 141
CALLED = {
    "units": "unit",
    "records_per_unit": "per_unit",
    "expected_batch": "batch",
    "clipping_norm": "clip",
}
"""Arguments of functions whose option has another name."""
MACHINES = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "EIO", "EMFILE", "ENFILE", "ENOMEM"),
        *("ENAMETOOLONG", "ENOTDIR", "EISDIR", "EFBIG", "ESTALE"),
    )
)
"""What the machine refuses, whatever the program asks: no bug of ours."""


class Commands(SectionedGroup):
    """A command group that ends every failure with one line on standard error and its status.

    A `DpiguError`, a mistake in the options, or what the machine refuses (a full disk, a file
    that may not be read) is the user's to mend: `error: …`, 2. An interrupt: 130.
    A reader that closed the pipe: 141, in silence. Anything else is a bug of ours: 70, with the
    traceback in the run's `private/` folder where `crashes_reported` knows it, else on standard
    error. A command with a status of its own ends with `ctx.exit(status)`.
    """

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command that the arguments name, and exit."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal without an ε
        try:
            status = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            status = USER_ERROR
        except click.ClickException as error:
            status = _mistake(error)
        except click.Abort as error:
            status = _say(f"interrupted{f'; {error}' if _line(error) else ''}", INTERRUPTED)
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> int:
        """Run the command; its status."""
        try:
            super().invoke(ctx)
            sys.stdout.flush()
            return 0
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except Crash as crash:
            return _say(f"{_bug(crash.cause)}; the traceback is {crash.report}", BUG)
        except Exception as error:  # whatever is no user's mistake is a bug, and says so
            if _is_users(error):
                return _say(f"error: {self._spelled(error, ctx)}", USER_ERROR)
            traceback.print_exc()
            return _say(_bug(error), BUG)

    def _spelled(self, error: Exception, ctx: click.Context) -> str:
        """The error's line, with the command's options for the arguments that it names.

        An argument is what stands in backticks or is the error's `where`: `data_dir` of
        `load_data` is --data-dir of `dpigu train`.
        """
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        parameters = command.params if command is not None else []
        options = {p.name: p.opts[0] for p in parameters if isinstance(p, click.Option)}
        options |= {k: options[name] for k, name in CALLED.items() if name in options}
        line, where = str(error), getattr(error, "where", "")
        if where in options:
            line = options[where] + line.removeprefix(where)
        return re.sub(r"`(\w+)`", lambda named: options.get(named[1], named[0]), line)


class Crash(Exception):
    """A bug of ours whose traceback has been put away."""

    def __init__(self, cause: Exception, report: str) -> None:
        super().__init__(report)
        self.cause = cause
        self.report = report


@contextmanager
def crashes_reported(private: Path) -> Iterator[None]:
    """Put the traceback of a crash into a run's `private/` folder, if the folder is there.

    A traceback and its message may show training records, so neither goes anywhere else: where
    they cannot be put away, they are lost.
    """
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:  # put away, and raised again as a crash
        if _is_users(error) or not private.is_dir():
            raise
        report = private / "crashes.txt"
        try:
            mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with os.fdopen(os.open(report, mode, 0o600), "a") as file:
                file.write(traceback.format_exc() + "\n")
        except OSError as full:
            raise Crash(error, f"nowhere: {report} cannot be written") from full
        raise Crash(error, f"in {report}") from error


def _is_users(error: Exception) -> bool:
    """Whether the user can mend it: a `DpiguError`, or a refusal of the machine.

    The class is found without loading torch for the sake of `--help`.
    """
    if isinstance(error, OSError) and error.errno in MACHINES:
        return True
    module = sys.modules.get("dpigu.dpcore.errors")
    return module is not None and isinstance(error, module.DpiguError)


def _line(error: Exception) -> str:
    """The error in one line: a refusal of the machine with the file that it is about."""
    if isinstance(error, OSError) and error.errno in MACHINES:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)


def _mistake(error: click.ClickException) -> int:
    message = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" See {context.command_path} --help." if context is not None else ""
    return _say(f"error: {message}{hint}", USER_ERROR)


def _bug(error: Exception) -> str:
    return f"error: this is a bug in dpigu or in a plugin ({type(error).__name__})"


def _say(line: str, status: int) -> int:
    click.echo(printable(line), err=True)
    return status
