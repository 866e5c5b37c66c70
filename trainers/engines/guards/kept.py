"""What a model and its loss keep between calls: nothing may change while they look at records.

A value that one record leaves behind moves the next record's row, and no clipping bounds that.
So everything that can be reached from the model and the loss is noted before they meet records
and compared afterwards: attributes, containers, tensors and arrays, generators of random
numbers, closures, default arguments, attributes of functions and of the user's own classes,
and the globals that their code names. What cannot be seen into (an open file, an iterator, the
globals of an installed package) is `declared`: it is the user's word that nothing is kept there.
"""

from __future__ import annotations

import functools
import itertools
import random
import sys
import types
import zlib
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, cast

import numpy as np
import torch
from dpigu.trainers.distributed import own
from dpigu.trainers.engines.guards.code import global_names, is_installed
from torch import Tensor, nn

Looker = Callable[["Kept", str, Any], None]
PLAIN = (bool, int, float, complex, str, bytes, type(None))
FIXED = (torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format, np.dtype, Enum)
_STILL = frozenset({"typing", "types", "abc", "_abc", "re", "logging", "builtins", "inspect"})
"""Modules of Python whose objects carry nothing from one record to another."""
MOST = 200_000
"""Values that are looked at; a model that hangs together with more is not taken apart further."""
_OF_MODULE = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}
_OF_RECURRENT = frozenset({"_flat_weights", "_flat_weight_refs"})
"""Recurrent layers list their weights anew whenever they are handed some."""
_OF_CLASS = frozenset(
    {*vars(type("_", (), {})), "__annotations__", "__orig_bases__", "__parameters__"}
    | {"__match_args__", "__dataclass_fields__", "__dataclass_params__", "__abstractmethods__"}
    | {"__firstlineno__", "__static_attributes__", "__annotate__", "__type_params__"}
)
"""What Python itself hangs on a class."""
_HOOKS = frozenset(name for name in _OF_MODULE if name.endswith("_hooks"))


class Kept:
    """What was found, by path; and the paths that could not be seen into."""

    def __init__(self, *, values: bool) -> None:
        self._values = values
        self._found: dict[str, object] = {}
        self._alive: list[object] = []  # so that nothing new gets the identity of something old
        self._seen: set[int] = set()
        self._functions: set[int] = set()
        self._opaque: list[str] = []
        self._beyond = ""

    @classmethod
    def of(cls, model: nn.Module, loss: object, *, values: bool = True) -> Kept:
        """Everything that can be reached from a model and its loss."""
        kept = cls(values=values)
        kept._see("model", model)
        kept._see("loss", loss)
        return kept

    @property
    def declared(self) -> tuple[str, ...]:
        """What cannot be seen into, with its type."""
        return (*self._opaque, *([self._beyond] if self._beyond else []))

    def differs(self, other: Kept) -> str | None:
        """The path of the first thing that is not the same, or None."""
        for path in (*self._found, *other._found):
            if path not in self._found or path not in other._found:
                return path
            if not _same(self._found[path], other._found[path]):
                return path
        return None

    def _see(self, path: str, value: Any) -> None:
        kind = type(value)
        if kind in PLAIN:
            self._found[path] = value if value == value else repr(value)
        elif id(value) in self._seen:
            self._found[path] = id(value)
        elif len(self._found) > MOST:
            self._found[path] = id(value)
            self._beyond = f"{path} (after {MOST:,} values)"
        else:
            self._seen.add(id(value))
            self._alive.append(value)
            _looker(cast(Hashable, kind))(self, path, value)

    def _fixed(self, path: str, value: Any) -> None:
        self._found[path] = value

    def _itself(self, path: str, value: Any) -> None:
        self._found[path] = id(value)

    def _said(self, path: str, value: Any) -> None:
        self._found[path] = repr(value)

    def _array(self, path: str, value: Any) -> None:
        if value.dtype.hasobject:
            self._found[path] = (value.shape, value.dtype)
            for i, item in enumerate(value.flat):
                self._see(f"{path}[{i}]", item)
        else:
            self._found[path] = (value.shape, value.dtype, zlib.crc32(value.tobytes()))

    def _generator(self, path: str, value: Any) -> None:
        """A generator of random numbers: by its state."""
        match value:
            case torch.Generator():
                self._found[path] = self._digest(value.get_state())
            case np.random.Generator():
                self._found[path] = repr(value.bit_generator.state)
            case np.random.RandomState():
                self._found[path] = repr(value.get_state())
            case _:
                self._found[path] = hash(value.getstate())

    def _mapping(self, path: str, value: Any) -> None:
        self._found[path] = (type(value), len(value))
        for key, item in list(value.items()):
            self._see(f"{path}[{key!r}]", item)
        self._attributes(path, value)

    def _set(self, path: str, value: Any) -> None:
        self._found[path] = {item if type(item) in PLAIN else id(item) for item in value}
        for item in value:
            if type(item) not in PLAIN:
                self._see(f"{path}{{{id(item)}}}", item)
        self._attributes(path, value)

    def _bytes(self, path: str, value: Any) -> None:
        self._found[path] = bytes(value)

    def _cell(self, path: str, value: Any) -> None:
        try:
            content = value.cell_contents
        except ValueError:  # not filled yet
            content = None
        self._see(path, content)

    def _method(self, path: str, value: Any) -> None:
        self._see(path, value.__func__)
        self._see(f"{path}.__self__", value.__self__)

    def _wrapped(self, path: str, value: Any) -> None:
        self._see(path, value.__func__)

    def _property(self, path: str, value: Any) -> None:
        self._see(f"{path}.fget", value.fget)
        self._see(f"{path}.fset", value.fset)

    def _partial(self, path: str, value: Any) -> None:
        self._see(f"{path}.func", value.func)
        self._see(f"{path}.args", value.args)
        self._see(f"{path}.keywords", value.keywords)

    def _cache(self, path: str, value: Any) -> None:
        info = value.cache_info()
        self._found[path] = (info.misses, info.currsize)
        self._see(f"{path}.__wrapped__", value.__wrapped__)

    def _running(self, path: str, value: Any) -> None:
        """A generator that is under way: where it stands, and its variables."""
        frame = value.gi_frame
        self._found[path] = frame and frame.f_lasti
        for name, item in (frame.f_locals if frame else {}).items():
            self._see(f"{path}.{name}", item)

    def _tensor(self, path: str, value: Tensor) -> None:
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            self._found[path] = id(value)
        elif self._values:
            self._found[path] = (value.shape, value.dtype, value.device, self._digest(value))
        else:
            self._found[path] = (id(value), value._version)

    def _digest(self, value: Tensor) -> object:
        flat = own(value.detach()).resolve_conj().contiguous().flatten()
        if flat.device.type == "cpu":
            return zlib.crc32(flat.view(torch.uint8).numpy().data) if flat.numel() else 0
        return torch.stack([flat.double().sum(), torch.hash_tensor(flat).double()])

    def _sequence(self, path: str, value: Any) -> None:
        if all(type(item) in PLAIN for item in value):
            self._found[path] = (type(value), len(value), hash(tuple(map(repr, value))))
        else:
            self._found[path] = (type(value), len(value))
            for i, item in enumerate(list(value)):
                self._see(f"{path}[{i}]", item)
        self._attributes(path, value)

    def _attributes(self, path: str, value: object) -> None:
        for name, item in list(getattr(value, "__dict__", {}).items()):
            self._see(f"{path}.{name}", item)
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, name):
                    self._see(f"{path}.{name}", getattr(value, name))

    def _module(self, path: str, module: nn.Module) -> None:
        self._found[path] = id(module)
        for name, item in list(vars(module).items()):
            if name in ("_parameters", "_buffers", "_modules"):
                for key, part in item.items():
                    if part is not None:
                        self._see(f"{path}.{key}", part)
            elif isinstance(module, nn.RNNBase) and name in _OF_RECURRENT:
                continue
            elif name not in _OF_MODULE or (name in _HOOKS and item):
                self._see(f"{path}.{name}", item)
        self._class(type(module).__name__, type(module))

    def _class(self, path: str, cls: type) -> None:
        """The data and the functions of a class of the user's, and of those that it is made of."""
        for base in cls.__mro__:
            if id(base) in self._functions or is_installed(base.__module__):
                continue
            self._functions.add(id(base))
            self._alive.append(base)
            for name, item in list(vars(base).items()):
                if name not in _OF_CLASS:
                    self._see(f"{base.__module__}.{base.__name__}.{name}", item)

    def _function(self, path: str, function: types.FunctionType) -> None:
        self._found[path] = id(function.__code__)
        if is_installed(function.__module__) and not function.__closure__:
            return
        self._see(f"{path}.__defaults__", function.__defaults__)
        self._see(f"{path}.__kwdefaults__", function.__kwdefaults__)
        self._attributes(path, function)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self._cell(f"{path}.{name}", cell)
        if not is_installed(function.__module__):
            self._globals(function)

    def _globals(self, function: types.FunctionType) -> None:
        names = global_names(function.__code__)
        for name in sorted(names):
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            path = f"{function.__module__}.{name}"
            if not isinstance(value, types.ModuleType):
                self._see_global(path, value)
            elif not is_installed(value.__name__):
                for inner in sorted(names & set(vars(value))):
                    self._see_global(f"{value.__name__}.{inner}", vars(value)[inner])

    def _see_global(self, path: str, value: Any) -> None:
        if isinstance(value, type | types.FunctionType) and is_installed(value.__module__):
            return
        if path not in self._found:
            self._see(path, value)

    def _other(self, path: str, value: Any) -> None:
        """An object: by its attributes, where they are all that it has."""
        cls = type(value)
        self._found[path] = (id(cls), id(value))
        root = cls.__module__.partition(".")[0]
        if root in sys.stdlib_module_names or root in ("torch", "numpy"):
            if root not in _STILL or hasattr(value, "__next__"):
                self._opaque.append(f"{path} ({cls.__name__})")
            elif root == "types":
                self._attributes(path, value)
            return
        self._attributes(path, value)
        self._class(cls.__name__, cls)


_LOOKERS: Sequence[tuple[tuple[type, ...], Looker]] = (
    ((Tensor,), Kept._tensor),
    (FIXED, Kept._fixed),
    ((nn.Module,), Kept._module),
    ((np.ndarray,), Kept._array),
    (
        (torch.Generator, np.random.Generator, np.random.RandomState, random.Random),
        Kept._generator,
    ),
    ((Mapping,), Kept._mapping),
    ((list, tuple, deque), Kept._sequence),
    ((set, frozenset), Kept._set),
    ((bytearray, memoryview), Kept._bytes),
    ((types.CellType,), Kept._cell),
    ((types.FunctionType,), Kept._function),
    ((types.MethodType,), Kept._method),
    ((staticmethod, classmethod), Kept._wrapped),
    ((property,), Kept._property),
    ((functools.partial,), Kept._partial),
    ((functools._lru_cache_wrapper,), Kept._cache),
    ((itertools.count,), Kept._said),
    ((types.GeneratorType,), Kept._running),
    ((type,), Kept._class),
    ((types.ModuleType, types.BuiltinFunctionType, types.WrapperDescriptorType), Kept._itself),
)


@functools.cache
def _looker(kind: type) -> Looker:
    for kinds, looker in _LOOKERS:
        if issubclass(kind, kinds):
            return looker
    return Kept._other


def _same(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return bool(torch.equal(one, other))
    return one == other
