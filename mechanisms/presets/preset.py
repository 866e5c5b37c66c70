"""What a preset is: a function that makes a plan, with its name, source and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dpigu.dpcore import Phase, Pipeline, Plan, RegistryError
from dpigu.mechanisms.clippers import Flat
from dpigu.mechanisms.release import Gaussian

Function = TypeVar("Function", bound=Callable[..., Plan])
Slots = Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """A plan by name: `plan(steps)` makes it with its defaults.

    Args:
        name: under which a configuration or a command asks for it.
        summary: one line for a list.
        source: the paper or report that it follows, with the algorithm or section.
        plan: from the number of steps of all phases together.
        training: what it needs beside the plan, unless the user says otherwise: `features` and
            `model` by name, and settings of the run.
    """

    name: str
    summary: str
    source: str
    plan: Callable[[int], Plan]
    training: Mapping[str, Any] = field(default_factory=dict)


DECORATED: dict[str, Preset] = {}
"""Every preset, by name, in the order in which the files were read."""


def preset(name: str, *, source: str = "", **training: Any) -> Callable[[Function], Function]:
    """Make a function of the number of steps a preset, and leave it as it is.

    Args:
        name: of the preset.
        source: where it comes from.
        training: what it needs beside the plan (`Preset.training`).

    The first line of the function's docstring is the summary.

    Errors: `RegistryError` for a name that is taken.
    """

    def decorate(function: Function) -> Function:
        if name in DECORATED:
            raise RegistryError("two presets have one name", where=name)
        summary = (inspect.getdoc(function) or "").partition("\n")[0].removesuffix(".")
        DECORATED[name] = Preset(name, summary, source, function, training)
        return function

    return decorate


def one_phase(steps: int, bound: float, **slots: Any) -> Plan:
    """One phase of DP-SGD, with a flat clipper unless another is given, and more stages."""
    slots.setdefault("clipper", Flat(bound=bound))
    return Plan((Phase("main", Pipeline(noiser=Gaussian(), **slots), steps),))


def two_phases(
    steps: int, bound: float, share: float, first: tuple[str, Slots], main: Slots
) -> Plan:
    """Two phases of DP-SGD with a flat clipper, each with more stages.

    Args:
        share: of the steps that the first takes, at least one if there are two.
        first: its name and its stages by slot; main: those of the second.
    """
    before = min(max(1, round(share * steps)), steps - 1)
    clipper, noiser = Flat(bound=bound), Gaussian()
    name, slots = first
    return Plan(
        (
            Phase(name, Pipeline(clipper, noiser, **slots), before),
            Phase("main", Pipeline(clipper, noiser, **main), steps - before),
        )
    )
