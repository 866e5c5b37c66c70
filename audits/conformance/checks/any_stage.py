"""Checks of every stage: it is its options, it keeps nothing, and it says what it reads."""

from __future__ import annotations

import dataclasses
import inspect
import random
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tomli_w
import torch
from dpigu.audits.conformance.check import Broken, Subject, check, first_line, for_all, of_kind
from dpigu.audits.conformance.harness import Harness
from dpigu.audits.conformance.scenario import SHAPE, Scenario, scenarios
from dpigu.audits.conformance.snapshots import Memory, bits, generators
from dpigu.dpcore import AffineRowMap, DpiguError, Stateful
from dpigu.dpcore.grammar.pipeline import is_frozen
from dpigu.dpcore.grammar.stages import KINDS, name_of
from dpigu.dpcore.registry import dataclass_from, lookup, options_of
from torch import Tensor


def anything(stage: object) -> bool:
    """Every stage."""
    return True


@check(
    "writes-nothing",
    guards="A function that sees a private record can hand nothing on to one that is released.",
    remedy="Keep nothing between calls: what a stage learns goes through `update`.",
    applies=of_kind("row", "clipper", "query", "statistic", "views"),
)
def writes_nothing(subject: Subject) -> None:
    written: list[str] = []

    def writes(scenario: Scenario) -> None:
        harness = Harness(subject, scenario)
        before = Memory(subject.stage)
        ended = False
        try:
            harness.show_records(1)
            harness.show_records(2)
            ended = True
        finally:  # using what was kept from a record can fail, in this example or a later one
            place = Memory(subject.stage).changed_since(before)
            written.extend([place] if place is not None else [])
            if place is not None or (written and not ended):
                raise Broken("a function that sees a private record writes", got=written[-1])

    for_all(writes, share=0.2, scenario=scenarios(steps=(1,)))


@check(
    "frozen-options",
    guards="A stage is its options: nothing can be kept in it, and equal options mean the same.",
    remedy="Decorate the class with @dataclass(frozen=True, kw_only=True); keep options alone in "
    "it.",
    applies=anything,
)
def frozen_options(subject: Subject) -> None:
    stage, cls = subject.stage, type(subject.stage)
    if not is_frozen(cls):
        raise Broken("it is not a frozen dataclass", got=cls.__qualname__)
    fields = dataclasses.fields(cls)
    if loose := [f.name for f in fields if not f.kw_only]:
        raise Broken("options are not keyword-only", got=loose)
    if hidden := [f.name for f in fields if not f.init or not f.compare]:
        raise Broken("options that cannot be given, or that equality leaves out", got=hidden)
    names = {f.name for f in fields}
    if extra := sorted(set(vars(stage)) - names):
        raise Broken("it holds more than its options", got=extra, expected=sorted(names))
    twin = replace(stage)
    try:
        same = twin == stage and hash(twin) == hash(stage)
    except TypeError as error:
        raise Broken(f"its options cannot be hashed: {first_line(error)}") from error
    if not same:
        raise Broken("a copy with the same options is not equal to it", got=twin, expected=stage)


@check(
    "options-round-trip",
    guards="A configuration file says all that a stage is, so a run can be repeated and audited.",
    remedy="Use numbers, strings, booleans and tuples of them as options, with their types.",
    applies=anything,
)
def options_round_trip(subject: Subject) -> None:
    options = options_of(subject.stage)
    try:
        text = tomli_w.dumps(options)
    except (TypeError, ValueError) as error:
        raise Broken(
            f"its options are not plain data: {first_line(error)}", options=options
        ) from error
    try:
        back = dataclass_from(type(subject.stage), tomllib.loads(text), name_of(subject.stage))
    except DpiguError as error:
        raise Broken("its options cannot be read back", options=text, got=str(error)) from error
    if back != subject.stage:
        raise Broken(
            "its options read back are others", options=text, got=back, expected=subject.stage
        )


@check(
    "registered",
    guards="A plan that is written down by names is the plan that runs.",
    remedy="Decorate the class with @register(kind, name), and name it in dpigu.stages.",
    applies=anything,
)
def registered(subject: Subject) -> None:
    stage, cls = subject.stage, type(subject.stage)
    try:
        entry = lookup(name_of(stage))
    except DpiguError as error:
        raise Broken("it is not registered", got=str(error)) from error
    if entry.stage is not cls:
        raise Broken("its name is another class's", got=entry.stage, expected=cls)
    if not isinstance(stage, KINDS[entry.kind]):
        raise Broken("it lacks a function of its kind", got=cls.__qualname__, expected=entry.kind)


@check(
    "says-what-it-reads",
    guards="A reader of the documentation learns what a stage claims and what it reads.",
    remedy="Add a line `Privacy: …` to the docstring: its bound, what it reads, what checks it.",
    applies=anything,
)
def says_what_it_reads(subject: Subject) -> None:
    doc = inspect.getdoc(type(subject.stage)) or ""
    if "Privacy:" not in doc:
        raise Broken("its docstring has no line `Privacy:`", got=doc.partition("\n")[0])


@check(
    "repeatable",
    guards="What a stage gives depends on its arguments and options: on no earlier call, no "
    "random generator and no clock.",
    remedy="Keep no cache and draw nothing: what must be random comes from the public seed in "
    "`init`, and what is learnt from `update`.",
    applies=anything,
)
def repeatable(subject: Subject) -> None:
    def again(scenario: Scenario) -> None:
        harness = Harness(subject, scenario).run()
        other = Harness(subject, replace(scenario, seed=scenario.seed + 1)).run()
        twin = replace(subject.stage)
        with torch.random.fork_rng(devices=[]):
            for (name, call), (_, late), (_, elsewhere) in zip(
                calls(harness, subject.stage).items(),
                calls(harness, twin).items(),
                calls(other, subject.stage).items(),
                strict=True,
            ):
                before = generators()
                first = bits(call())
                if generators() != before:
                    raise Broken(f"{name} draws from a global random generator")
                elsewhere()
                _reseed(scenario.seed + 1)
                if bits(call()) != first:
                    raise Broken(f"{name} gives something else when it is asked again")
                if bits(late()) != first:
                    raise Broken(f"{name} of an equal stage gives something else")

    for_all(again, share=0.2, scenario=scenarios(steps=(1, 3)))


@check(
    "leaves-inputs-alone",
    guards="A state, a row or a release that others hold is not changed behind their backs.",
    remedy="Return new tensors: `a = a + b` for `a += b`, and `f(x)` for `f_(x)`.",
    applies=anything,
)
def leaves_inputs_alone(subject: Subject) -> None:
    def alone(scenario: Scenario) -> None:
        harness = Harness(subject, scenario).run()
        held = inputs(harness)
        for name, call in calls(harness, subject.stage, held).items():
            before = {key: (t._version, bits(t)) for key, t in _tensors("", held)}
            call()
            for key, tensor in _tensors("", held):
                if (tensor._version, bits(tensor)) != before[key]:
                    raise Broken(f"{name} assigns to its argument in place", argument=key)

    for_all(alone, share=0.2, scenario=scenarios(steps=(1, 3)))


def inputs(harness: Harness) -> dict[str, Any]:
    """Arguments for every function of the stage, as they might stand at the end of the phase."""
    scenario = harness.scenario
    g_BD = scenario.rows("inputs", size=harness.input_space.size)
    x_BX, y_B = scenario.records("inputs")
    return {
        "state": harness.state,
        "reads": harness.reads,
        "g_BD": g_BD,
        "g_D": g_BD[0].clone(),
        "norms_G": scenario.rows("norms", size=harness.groups, count=1)[0].abs().double(),
        "weights_D": scenario.context().weights_D,
        "support_D": harness.opened().context.support_D,
        "release": harness.last,
        "context": replace(scenario.context(), space=harness.pipeline.space),
        "x_BX": x_BX,
        "y_B": y_B,
    }


def calls(
    harness: Harness, stage: Any, held: Mapping[str, Any] | None = None
) -> dict[str, Callable[[], object]]:
    """Every function that a stage of this kind has, with arguments; by name."""
    x = inputs(harness) if held is None else held
    state, reads = x["state"], x["reads"]
    of: dict[str, dict[str, Callable[[], object]]] = {
        "scorer": {"score": lambda: stage.score(state)},
        "scheduler": {
            "support": lambda: stage.support(state, harness.clock),
            "monotone and live": lambda: (stage.monotone, stage.live),
        },
        "row": {
            "output_space": lambda: stage.output_space(harness.input_space),
            "row": lambda: stage.row(state, x["g_D"]),
            "row, mapped over a batch,": lambda: torch.func.vmap(partial(stage.row, state))(
                x["g_BD"]
            ),
        },
        "clipper": {
            "joint_bound": lambda: stage.joint_bound(state),
            "factors": lambda: stage.factors(state, x["norms_G"]),
        },
        "query": {"vector": lambda: stage.vector(state, x["norms_G"], reads)},
        "noiser": {
            "law": lambda: stage.law,
            "noise_multiplier": lambda: stage.noise_multiplier,
        },
        "factorisation": {
            "bands": lambda: stage.bands,
            "coefficients": lambda: stage.coefficients(harness.scenario.steps),
        },
        "post": {
            "output_space": lambda: stage.output_space(harness.input_space),
            "apply": lambda: stage.apply(state, x["release"].noised, reads),
        },
        "point": {"at": lambda: stage.at(state, x["weights_D"], x["support_D"])},
        "subspace": {"basis": lambda: stage.basis(state)},
        "views": {"count": lambda: stage.count},
        "statistic": {
            "row_space": lambda: stage.row_space(harness.scenario.space, SHAPE),
            "fits": lambda: stage.fits(SHAPE),
            "row_of": lambda: harness.one(x["x_BX"][0], x["y_B"][0]),
        },
        "decision": {"accepts": lambda: stage.accepts(x["release"].noised)},
    }
    found = of[harness.kind]
    if isinstance(stage, AffineRowMap):
        found["affine"] = lambda: stage.affine(state)
    if isinstance(stage, Stateful):
        found["init"] = lambda: stage.init(x["context"], reads)
        found["update"] = lambda: stage.update(state, x["release"], reads)
    return found


def _reseed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _tensors(place: str, value: Any) -> list[tuple[str, Tensor]]:
    """Every tensor in nested arguments, with where it stands."""
    if isinstance(value, Tensor):
        return [(place, value)]
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _tensors(f"{place} {key}", item)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _tensors(place, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if hasattr(value, "variance"):
        return _tensors(place, {"value": value.value, "variance": value.variance})
    if hasattr(value, "state"):
        return _tensors(place, {"state": value.state})
    return []
