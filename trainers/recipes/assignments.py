"""A plan with some of its options changed, as a command line or a caller says them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from dpigu.dpcore import ConfigurationError, Plan
from dpigu.dpcore.registry import (
    MANY,
    SINGLE,
    lookup,
    plan_from_dict,
    plan_to_dict,
    refuse_unknown,
    value_of,
)


def clipped_at(plan: Plan, bound: float) -> Plan:
    """A plan with this clipping norm wherever weights are trained; a statistic keeps its own."""
    trains = [phase.name for phase in plan.phases if phase.pipeline.statistic is None]
    return assigned(plan, [f"{name}.clipper.bound={bound!r}" for name in trains])


def assigned(plan: Plan, assignments: Sequence[str]) -> Plan:
    """A plan with options changed, each as `stage.option=value`, after an optional `phase.`.

    A stage goes by its slot (clipper, scheduler, …) or by its name, one of a selective update
    by `selective_update.` before either; every one that matches in the phases meant is changed.
    """
    table = plan_to_dict(plan)
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        stage, dot, option = target.strip().rpartition(".")
        if not (equals and dot):
            raise ConfigurationError(
                "an assignment has the form stage.option=value",
                where=assignment,
                expected="like clipper.bound=0.5 or main.scheduler.ratio=0.4",
            )
        names = [phase["name"] for phase in table["phase"]]
        head, _, rest = stage.partition(".")
        meant, stage = ((head,), rest) if head in names and rest else (tuple(names), stage)
        found = False
        known: list[str] = []
        for phase in (p for p in table["phase"] if p["name"] in meant):
            for slot, name, options in _stages(phase):
                known += [slot, name]
                if stage in (slot, name):
                    fields = [f.name for f in dataclasses.fields(lookup(options["stage"]).stage)]
                    refuse_unknown([option], fields, assignment)
                    options[option] = value_of(text)
                    found = True
        if not found:
            near = [name for name in known if name.endswith(f".{stage}")]
            near += difflib.get_close_matches(stage, known, n=1)
            raise ConfigurationError(
                "the plan has no such stage",
                where=assignment,
                got=stage,
                expected=near[0] if near else sorted(set(known)),
            )
    return plan_from_dict(table)


def _stages(table: Mapping[str, Any], before: str = "") -> list[tuple[str, str, dict[str, Any]]]:
    """Every stage's slot, name and options; a selective update's after `selective_update.`."""
    single = [(slot, table[slot]) for slot in (*SINGLE, "decision") if slot in table]
    several = [(slot, stage) for slot in MANY for stage in table.get(slot, [])]
    found = [(before + slot, before + stage["stage"], stage) for slot, stage in single + several]
    if "selective_update" in table:
        found += _stages(table["selective_update"], "selective_update.")
    return found
