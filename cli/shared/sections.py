"""Help in sections: commands of a group by what they are for, options of a long command too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import click

LONG = 12
"""A command with more options than this shows them in sections."""
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "Data": (
        *("data", "records", "classes", "test", "target", "task", "columns", "unit", "per_unit"),
        *("unit_rows", "common_inputs", "features", "public", "data_dir", "workers"),
    ),
    "Plan and privacy": (
        *("preset", "config", "epsilon", "delta", "accountant", "noise_multiplier", "clip"),
        *("epochs", "steps", "batch", "rate", "assignments", "training_accuracy", "budget"),
    ),
    "Model and optimizer": (
        *("model", "seed", "learning_rate", "momentum", "optimizer", "schedule", "warmup"),
        "average",
    ),
    "Machine": ("engine", "physical_batch", "device", "autocast"),
    "Audit": ("canaries", "canary_kind"),
}
"""The options of `dpigu train` and its kin, by what they are about."""
Row = tuple[str, str]


class SectionedCommand(click.Command):
    """A command whose options, if they are many, are shown in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {
            param.name or "": record
            for param in self.get_params(ctx)
            if (record := param.get_help_record(ctx)) is not None
        }
        if len(rows) <= LONG:
            super().format_options(ctx, formatter)
        else:
            _write(formatter, sections(rows, OPTIONS, "Run"))


class SectionedGroup(click.Group):
    """A group whose commands are shown in sections: `by` title, the names; others come last."""

    command_class = SectionedCommand
    by: Mapping[str, tuple[str, ...]] = {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows[name] = (name, command.get_short_help_str(2 * formatter.width))
        _write(formatter, sections(rows, self.by, "Further commands" if self.by else "Commands"))


def sections(
    rows: Mapping[str, Row], by: Mapping[str, Iterable[str]], others: str
) -> Iterator[tuple[str, list[Row]]]:
    """Title and rows of every section that has any, in the table's order; `others` is last."""
    left = dict(rows)
    for title, names in by.items():
        if found := [left.pop(name) for name in names if name in left]:
            yield title, found
    if left:
        yield others, list(left.values())


def _write(formatter: click.HelpFormatter, parts: Iterable[tuple[str, list[Row]]]) -> None:
    for title, rows in parts:
        with formatter.section(title):
            formatter.write_dl(rows)
