"""What commands print: JSON that any reader takes, and aligned text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click


def print_json(value: object) -> None:
    """Print a value as JSON; what is not a finite number becomes null."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def print_fields(fields: Sequence[tuple[str, str]], *, err: bool = False) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(printable(f"{name:<{width}}  {value}"), err=err)


def printable(text: str) -> str:
    """A text with its control characters spelled out: a name from a file forges no line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
