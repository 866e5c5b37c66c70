"""Events as plain data, by the names that dp_accounting gives them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attr
from dp_accounting import DpEvent, dp_event
from dpigu.dpcore.errors import AccountingError

KINDS: Mapping[str, type] = {
    name: kind
    for name, kind in vars(dp_event).items()
    if isinstance(kind, type) and issubclass(kind, DpEvent) and kind is not DpEvent
}
"""The classes of dp_accounting's own events, by name."""


def event_to_dict(event: DpEvent) -> dict[str, Any]:
    """An event as nested plain data: its class's name under "type", then its fields.

    From it dp_accounting alone makes the event again: `getattr(dp_event, type)(**fields)`.

    Raises: AccountingError for a class that is not one of dp_accounting's own.
    """
    name = type(event).__name__
    if KINDS.get(name) is not type(event):
        raise AccountingError(
            f"{name} is not an event that can be written down",
            where="event",
            got=name,
            expected=f"one of {', '.join(KINDS)}",
        )
    fields = attr.asdict(cast(Any, event), recurse=False)
    return {"type": name, **{key: _plain(value) for key, value in fields.items()}}


def event_from_dict(table: Mapping[str, Any]) -> DpEvent:
    """The inverse of `event_to_dict`.

    Raises: AccountingError for what is no event.
    """
    try:
        fields = {key: _made(value) for key, value in table.items() if key != "type"}
        event: DpEvent = KINDS[table["type"]](**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise AccountingError(
            "this is no event", where="event", got=table, expected='{"type": …}'
        ) from error
    return event


def _plain(value: Any) -> Any:
    if isinstance(value, DpEvent):
        return event_to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _made(value: Any) -> Any:
    if isinstance(value, Mapping):
        return event_from_dict(value)
    if isinstance(value, list):
        return [_made(item) for item in value]
    return value
