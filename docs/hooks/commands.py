"""The page of commands: every command's own help, by its group."""

from __future__ import annotations

from collections.abc import Iterator

import click
from dpigu.cli.dpaudit.main import main as dpaudit
from dpigu.cli.dpigu.main import main as dpigu

HEAD = """# Commands

What `--help` prints, command by command. [Complete them with Tab](../terminal.md).
"""


def page() -> str:
    """Every command of both programs with its help."""
    parts = [HEAD]
    for name, program in (("dpigu", dpigu), ("dpaudit", dpaudit)):
        for context in _commands(click.Context(program, info_name=name, terminal_width=88)):
            path = context.command_path
            parts.append(f"{'#' * (2 + path.count(' ') * (path != name))} {path}\n")
            parts.append(f"```text\n{context.command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(context: click.Context) -> Iterator[click.Context]:
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(click.Context(inner, context, info_name=name, terminal_width=88))
