"""Exact comparisons: a value bit for bit, and everything that a stage could keep something in."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from dpigu.dpcore import Released
from torch import Tensor

HUGE = 10**7


def bits(value: object) -> object:
    """A value in a form that is equal only if every bit is."""
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return str(value.dtype), tuple(value.shape), raw.numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, Released):
        return bits((value.value, value.variance))
    if isinstance(value, Mapping):
        return tuple(sorted((str(key), bits(item)) for key, item in value.items()))
    if isinstance(value, (tuple, list)):
        return tuple(bits(item) for item in value)
    return repr(value)


def generators() -> object:
    """The states of the global random generators of Python, NumPy and torch."""
    return random.getstate(), bits((np.random.get_state(), torch.get_rng_state()))


def package_of(module: str) -> str:
    """The package that a stage's code belongs to: the first name, or the room of `dpigu`."""
    names = module.split(".")
    return ".".join(names[:2] if names[0] == "dpigu" else names[:1])


class _Same:
    """An object by its identity, held so that no other can take that."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    __hash__ = None  # type: ignore[assignment]  # compared only

    def __repr__(self) -> str:
        return f"the same {type(self.thing).__name__}"


class Memory:
    """All that a stage's code can reach and write: what it holds now, place by place.

    Followed are the stage, its classes, their functions with closures and defaults, the modules
    of its own package (`package_of`), and containers, tensors and generators in any of them. It is
    no sandbox: files, other packages and the interpreter itself are not looked at.
    """

    def __init__(self, stage: object) -> None:
        self._package = package_of(type(stage).__module__)
        self._visited: dict[int, object] = {}
        self.places: dict[str, object] = {}
        self._object("stage", stage)
        for cls in type(stage).__mro__:
            self._visit(cls.__name__, cls)
            if self._own(cls):
                self._visit(cls.__module__, sys.modules.get(cls.__module__))

    def changed_since(self, before: Memory) -> str | None:
        """The first place that holds something else than before, or None."""
        for place in {**before.places, **self.places}:
            if place not in before.places or place not in self.places:
                return place
            if before.places[place] != self.places[place]:
                return place
        return None

    def _own(self, thing: Any) -> bool:
        module = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
        return package_of(str(module)) == self._package

    def _object(self, place: str, thing: object) -> None:
        for name, value in sorted(vars(thing).items(), key=lambda item: str(item[0])):
            if not (name.startswith("__") and name.endswith("__")):
                self._visit(f"{place}.{name}", value)

    def _visit(self, place: str, value: Any) -> None:
        if isinstance(value, (str, bytes, int, float, complex, bool, type(None))):
            self.places[place] = repr(value)
            return
        self.places[place] = _Same(value)
        if id(value) in self._visited:
            return
        self._visited[id(value)] = value
        if isinstance(value, Tensor):
            self.places[f"{place} (content)"] = _content(value)
        elif isinstance(value, (np.ndarray, bytearray)):
            self.places[f"{place} (content)"] = bytes(value)
        elif isinstance(value, torch.Generator):
            self.places[f"{place} (state)"] = bits(value.get_state())
        elif isinstance(value, np.random.Generator):
            self.places[f"{place} (state)"] = repr(value.bit_generator.state)
        elif isinstance(value, random.Random):
            self.places[f"{place} (state)"] = repr(value.getstate())
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self._visit(f"{place}[{key!r}]" if _plain(key) else f"{place}[…]", item)
            self.places[f"{place} (length)"] = len(value)
        elif isinstance(value, (list, tuple, set, frozenset, deque)):
            self.places[f"{place} (length)"] = len(value)
            for i, item in enumerate(value):
                self._visit(f"{place}[{i}]", item)
        elif isinstance(value, MethodType):
            self._visit(place, value.__func__)
        elif isinstance(value, FunctionType):
            self._function(place, value)
        elif isinstance(value, (staticmethod, classmethod)):
            self._visit(f"{place} (function)", value.__func__)
        elif isinstance(value, property):
            self._visit(f"{place} (getter)", value.fget)
        elif isinstance(value, (ModuleType, type)):
            if self._own(value):
                self._object(value.__name__, value)
        elif self._own(type(value)) and hasattr(value, "__dict__"):
            self._object(place, value)

    def _function(self, place: str, function: FunctionType) -> None:
        if not self._own(function):
            return
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            self._visit(f"{place} ({name} in its closure)", _held(cell))
        self._visit(f"{place} (defaults)", function.__defaults__)
        self._visit(f"{place} (keyword defaults)", function.__kwdefaults__)
        self._visit(f"{place} (attributes)", vars(function))


def _held(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None


def _plain(key: object) -> bool:
    return isinstance(key, (str, int, tuple))


def _content(tensor: Tensor) -> object:
    """The bits of a tensor; its version alone if it is huge or cannot be read (a mapped one)."""
    try:
        return tensor._version, bits(tensor) if tensor.numel() < HUGE else None
    except (RuntimeError, TypeError):
        return _Same(tensor)
