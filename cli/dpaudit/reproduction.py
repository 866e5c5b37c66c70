"""How a command ends: the line that gives its report again, and its status."""

from __future__ import annotations

import shlex

import click
from dpigu.audits.verdict import Judged, Verdict

LEFT_OUT = ("out", "workers", "as_json", "require_power")
"""The options that change nothing of a report."""


def reproduction(**changed: object) -> tuple[str]:
    """The command that runs, with the options that its report depends on and with those changed."""
    ctx = click.get_current_context()
    words = ["dpaudit", ctx.command.name or ""]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        value = changed.get(name, ctx.params.get(name))
        if value is None or (name in LEFT_OUT and name not in changed):
            continue
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif isinstance(value, bool):
            words += (parameter.opts if value else parameter.secondary_opts)[:1]
        else:
            words += [parameter.opts[0], str(value)]
    return (shlex.join(words),)


def status_of(report: Judged, require_power: bool) -> int:
    """The status of a verdict; 3 too where power was required and the design had none."""
    if require_power and report.powerless:
        return Verdict.INVALID_AUDIT.exit_status
    return report.exit_status
