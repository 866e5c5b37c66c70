"""Plans as plain data: TOML in, TOML out, and unknown keys refused with the nearest known one."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from enum import EnumType
from typing import Any

from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import ConfigurationError
from dpigu.dpcore.grammar.pipeline import Pipeline
from dpigu.dpcore.grammar.plan import Phase, Plan, SelectiveUpdate
from dpigu.dpcore.grammar.stages import name_of
from dpigu.dpcore.registry.entries import lookup

SINGLE = (
    "scorer",
    "scheduler",
    "subspace",
    "views",
    "statistic",
    "point",
    "clipper",
    "noiser",
    "factorisation",
)
MANY = ("rows", "posts", "queries")
KIND_OF = {**{slot: slot for slot in SINGLE}, "rows": "row", "posts": "post", "queries": "query"}


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """An error for the first key that is not known, with the nearest one that is."""
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigurationError(
                f"unknown key {key!r}",
                where=where,
                got=key,
                expected=near[0] if near else known,
                remedy=f"Did you mean {near[0]!r}?" if near else "",
            )


def typed(value: object, hint: Any, where: str) -> Any:
    """`value` as the type that an option declares; an error that names both if it is not."""
    allowed = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in allowed:
        origin = typing.get_origin(option)
        if option is type(None) and value is None:
            return None
        if origin is typing.Literal and value in typing.get_args(option):
            return value
        if origin is tuple and isinstance(value, (list, tuple)):
            inner = typing.get_args(option)[0]
            return tuple(typed(item, inner, where) for item in value)
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if option in (int, str, bool) and type(value) is option:
            return value
        if isinstance(option, EnumType) and value in list(option):
            return option(value)
    words = [word for word in _words(hint) if isinstance(value, str)]
    near = difflib.get_close_matches(str(value), words, n=1)
    raise ConfigurationError(
        "an unknown word" if words and str not in allowed else "a value of the wrong type",
        where=where,
        got=value,
        expected=" or ".join(words) if words else _type_name(hint),
        remedy=f"Did you mean {near[0]!r}?" if near else "",
    )


def check_types(thing: Any, where: str) -> None:
    """Bring a dataclass's options to their declared types; an error that names the first that is
    of another type, or a word that is none of those declared."""
    hints = typing.get_type_hints(type(thing))
    for field in dataclasses.fields(thing):
        value = typed(getattr(thing, field.name), hints[field.name], f"{where}.{field.name}")
        object.__setattr__(thing, field.name, value)


def value_of(text: str) -> Any:
    """A TOML value as typed on a command line; anything that is none is taken as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def dataclass_from(cls: type, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass of plain options from a table."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    refuse_unknown(table, fields, where)
    missing = [
        name
        for name, field in fields.items()
        if name not in table
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigurationError(f"the option {missing[0]!r} is missing", where=where)
    return cls(**{key: typed(value, hints[key], f"{where}.{key}") for key, value in table.items()})


def options_of(thing: Any) -> dict[str, Any]:
    """A dataclass's options as plain data; those that are None are left out."""
    options = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    return {key: _plain(value) for key, value in options.items() if value is not None}


def stage_from(table: Mapping[str, Any], kind: str, where: str) -> Any:
    """A stage from a table that names it: {stage = "flat", bound = 0.5}."""
    if not isinstance(table, Mapping) or "stage" not in table:
        raise ConfigurationError(
            "a stage is a table that names it", where=where, got=table, expected='stage = "…"'
        )
    entry = lookup(typed(table["stage"], str, f"{where}.stage"))
    if entry.kind != kind:
        raise ConfigurationError(
            "a stage of another kind",
            where=where,
            got=f"{entry.name}, a {entry.kind}",
            expected=f"a {kind}",
        )
    options = {key: value for key, value in table.items() if key != "stage"}
    return dataclass_from(entry.stage, options, where)


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """A plan as plain data, with every option written out.

    Examples:
        >>> import dpigu
        >>> plan = dpigu.dpsgd(10)
        >>> dpigu.plan_from_dict(plan_to_dict(plan)) == plan
        True
    """
    phases = []
    for phase in plan.phases:
        table: dict[str, Any] = {
            "name": phase.name,
            "steps": phase.steps,
            "inherits": list(phase.inherits),
            **_pipeline_to_dict(phase.pipeline),
        }
        if phase.selective_update is not None:
            selective = phase.selective_update
            sampled = {"share": selective.share, "rate": selective.rate}
            table["selective_update"] = {
                **{key: value for key, value in sampled.items() if value is not None},
                "decision": _stage_to_dict(selective.decision),
                **_pipeline_to_dict(selective.pipeline),
            }
        phases.append(table)
    return {"adjacency": str(plan.adjacency), "phase": phases}


def _stage_to_dict(stage: object) -> dict[str, Any]:
    return {"stage": name_of(stage), **options_of(stage)}


def _pipeline_to_dict(pipeline: Pipeline) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for slot in SINGLE:
        if (stage := getattr(pipeline, slot)) is not None:
            table[slot] = _stage_to_dict(stage)
    for slot in MANY:
        if stages := getattr(pipeline, slot):
            table[slot] = [_stage_to_dict(stage) for stage in stages]
    return table


def plan_from_dict(table: Mapping[str, Any], where: str = "plan") -> Plan:
    """A plan from plain data: the inverse of `plan_to_dict`."""
    refuse_unknown(table, ("adjacency", "phase"), where)
    adjacency = typed(
        table.get("adjacency", str(Adjacency.ADD_OR_REMOVE_ONE)), Adjacency, f"{where}.adjacency"
    )
    phases = table.get("phase")
    if not isinstance(phases, list):
        raise ConfigurationError(
            "a plan needs phases", where=where, got=phases, expected="[[phase]] tables"
        )
    return Plan(
        tuple(_phase(phase, f"{where}.phase[{i}]") for i, phase in enumerate(phases)), adjacency
    )


def _phase(table: Mapping[str, Any], where: str) -> Phase:
    refuse_unknown(table, ("name", "steps", "inherits", "selective_update", *SINGLE, *MANY), where)
    for key in ("name", "steps"):
        if key not in table:
            raise ConfigurationError(f"the key {key!r} is missing", where=where)
    hints = typing.get_type_hints(Phase)
    options = {
        key: typed(table[key], hints[key], f"{where}.{key}")
        for key in ("name", "steps", "inherits")
        if key in table
    }
    selective = None
    if (inner := table.get("selective_update")) is not None:
        selective = _selective_update(inner, f"{where}.selective_update")
    return Phase(pipeline=_pipeline(table, where), selective_update=selective, **options)


def _selective_update(table: Mapping[str, Any], where: str) -> SelectiveUpdate:
    refuse_unknown(table, ("rate", "share", "decision", *SINGLE, *MANY), where)
    if "decision" not in table:
        raise ConfigurationError("the key 'decision' is missing", where=where)
    decision = stage_from(table["decision"], "decision", f"{where}.decision")
    rate = typed(table.get("rate"), float | None, f"{where}.rate")
    share = typed(table.get("share", 1.0), float, f"{where}.share")
    return SelectiveUpdate(_pipeline(table, where), decision, rate, share)


def _pipeline(table: Mapping[str, Any], where: str) -> Pipeline:
    """The pipeline among the keys of a table."""
    for key in ("clipper", "noiser"):
        if key not in table:
            raise ConfigurationError(f"the key {key!r} is missing", where=where)
    stages: dict[str, Any] = {}
    for slot in SINGLE:
        if slot in table:
            stages[slot] = stage_from(table[slot], KIND_OF[slot], f"{where}.{slot}")
    for slot in MANY:
        if slot in table:
            stages[slot] = tuple(
                stage_from(item, KIND_OF[slot], f"{where}.{slot}[{i}]")
                for i, item in enumerate(table[slot])
            )
    return Pipeline(**stages)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Adjacency) else value


def _words(hint: Any) -> list[str]:
    """The words that a hint allows by name."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    return [
        word
        for option in options
        if typing.get_origin(option) is typing.Literal
        for word in typing.get_args(option)
    ]


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _type_name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)).replace("typing.", "")
