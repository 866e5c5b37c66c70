"""Stages by name: the registry with its plugins, TOML round trips, and a plan in words."""

from dpigu.dpcore.registry.configuration import (
    KIND_OF,
    MANY,
    SINGLE,
    dataclass_from,
    options_of,
    plan_from_dict,
    plan_to_dict,
    refuse_unknown,
    typed,
    value_of,
)
from dpigu.dpcore.registry.description import Guarantee, describe
from dpigu.dpcore.registry.entries import Entry, lookup, register

__all__ = [
    "KIND_OF",
    "MANY",
    "SINGLE",
    "Entry",
    "Guarantee",
    "dataclass_from",
    "describe",
    "lookup",
    "options_of",
    "plan_from_dict",
    "plan_to_dict",
    "refuse_unknown",
    "register",
    "typed",
    "value_of",
]
