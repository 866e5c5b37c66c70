"""The registry of stages: one road for the built-in ones and for plugins.

A distribution names its stages in the entry-point group `dpigu.stages`, and the class says
its kind with `@register(kind, name)`. Nothing is imported until it is asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeVar

from dpigu.dpcore.errors import DpiguError, RegistryError
from dpigu.dpcore.grammar.pipeline import is_frozen
from dpigu.dpcore.grammar.stages import KINDS, AffineRowMap, Stateful

GROUP = "dpigu.stages"
OWN_DISTRIBUTION = "dpigu"
OWN_PACKAGE = "dpigu.mechanisms"
THIS_PROCESS = "(this process)"

C = TypeVar("C", bound=type)


class Entry(NamedTuple):
    """A registered stage: its kind, name, class and the distribution that brought it."""

    kind: str
    name: str
    stage: type
    distribution: str


_registered: dict[str, Entry] = {}


def register(kind: str, name: str) -> Callable[[C], C]:
    """Class decorator that registers a stage under a kind and a name.

    The class must be a frozen dataclass with keyword-only options and have the functions of
    its kind, with their arguments. A name outside dpigu itself has a namespace: `acme/topk`.
    """

    def decorate(cls: C) -> C:
        _check(kind, name, cls)
        known = _registered.get(name)
        if known is not None and not _same_class(known.stage, cls):
            raise _duplicate(name, known.distribution, _distribution_of(name, cls))
        _registered[name] = Entry(kind, name, cls, _distribution_of(name, cls))
        cls.stage_name = name  # type: ignore[attr-defined]  # how a stage knows its name
        cls.stage_kind = kind  # type: ignore[attr-defined]  # and its kind
        return cls

    return decorate


def lookup(name: str) -> Entry:
    """The stage of that name, loaded now if need be.

    Examples:
        >>> import dpigu
        >>> dpigu.lookup("flat").kind
        'clipper'
    """
    points, claimed_twice = _entry_points()
    if name in claimed_twice:
        raise claimed_twice[name]
    if name in points:
        _load(name, points[name])
    if name not in _registered:
        near = difflib.get_close_matches(name, {*points, *_registered}, n=1)
        raise RegistryError(
            "there is no stage of that name",
            where="registry",
            got=name,
            expected=near[0] if near else None,
            remedy="`dpigu stages` lists them all.",
        )
    return _registered[name]


def entries() -> tuple[list[Entry], list[DpiguError]]:
    """Every stage that loads, by kind and name; and the errors of those that do not."""
    points, claimed_twice = _entry_points()
    broken: list[DpiguError] = list(claimed_twice.values())
    for name, point in points.items():
        try:
            _load(name, point)
        except RegistryError as error:
            broken.append(error)
    order = list(KINDS)
    return sorted(_registered.values(), key=lambda e: (order.index(e.kind), e.name)), broken


def _entry_points() -> tuple[dict[str, metadata.EntryPoint], dict[str, RegistryError]]:
    """Every entry point by name; and the error of each name that two distributions claim."""
    points: dict[str, metadata.EntryPoint] = {}
    claimed_twice: dict[str, RegistryError] = {}
    for point in _installed(_search_path()):
        known = points.setdefault(point.name, point)
        if known.value != point.value:
            claimed_twice[point.name] = _duplicate(point.name, _owner(known), _owner(point))
    unique = {name: point for name, point in points.items() if name not in claimed_twice}
    return unique, claimed_twice


@functools.lru_cache(maxsize=1)
def _installed(search_path: tuple[tuple[str, int], ...]) -> tuple[metadata.EntryPoint, ...]:
    """Every distribution's entry points of the group: slow to read, so kept while the folders
    of the search path are the same and unchanged."""
    return tuple(metadata.entry_points(group=GROUP))


def _search_path() -> tuple[tuple[str, int], ...]:
    """Where distributions are looked for, each place with the time of its last change."""
    places = [Path(place) for place in sys.path]
    return tuple((str(p), p.stat().st_mtime_ns if p.exists() else 0) for p in places)


def _load(name: str, point: metadata.EntryPoint) -> None:
    if name in _registered:
        return
    owner = _owner(point)
    try:
        point.load()
    except DpiguError as error:
        raise RegistryError(
            f"the plugin of {owner} is refused: {error}", where=name, got=point.value
        ) from error
    except (Exception, SystemExit) as error:  # a plugin's module may fail in any way
        raise RegistryError(
            f"the plugin of {owner} does not load: {type(error).__name__}: {error}",
            where=name,
            got=point.value,
            remedy=f"Mend or uninstall {owner}; the other stages still work.",
        ) from error
    if name not in _registered:
        raise RegistryError(
            f"the plugin of {owner} does not register this name",
            where=name,
            got=point.value,
            remedy=f"Decorate the class with @register(kind, {name!r}).",
        )


def _check(kind: str, name: str, cls: type) -> None:
    where = f"register({kind!r}, {name!r})"
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        raise RegistryError(
            "there is no such kind of stage",
            where=where,
            got=kind,
            expected=near[0] if near else list(KINDS),
        )
    if not re.fullmatch(r"([a-z0-9][a-z0-9_.-]*/)?[a-z0-9][a-z0-9.-]*", name):
        raise RegistryError(
            "a name has lower-case letters, digits, '-' and '.', after an optional namespace",
            where=where,
            got=name,
            expected="like acme/topk",
        )
    if "/" not in name and not cls.__module__.startswith(OWN_PACKAGE + "."):
        raise RegistryError(
            "a name outside dpigu needs a namespace",
            where=where,
            got=name,
            expected=f"acme/{name}",
            remedy="Put your distribution's name and a slash before it.",
        )
    if not is_frozen(cls):
        raise RegistryError(
            "a stage must be a frozen dataclass",
            where=where,
            got=cls.__qualname__,
            remedy="Decorate the class with @dataclass(frozen=True, kw_only=True), below register.",
        )
    if loose := [f.name for f in dataclasses.fields(cls) if not f.kw_only]:
        raise RegistryError(
            "options are keyword-only",
            where=where,
            got=loose,
            remedy="Decorate the class with @dataclass(frozen=True, kw_only=True).",
        )
    for function, want in _functions(KINDS[kind], cls):
        have = getattr(cls, function, None)
        if not callable(have):
            raise RegistryError(
                f"a {kind} needs the function {function}",
                where=where,
                got=cls.__qualname__,
                expected=f"def {function}({', '.join(want)})",
            )
        if (got := list(inspect.signature(have).parameters)) != want:
            raise RegistryError(
                f"{function} has other arguments than a {kind} is called with",
                where=where,
                got=f"({', '.join(got)})",
                expected=f"({', '.join(want)})",
            )
    names = {*dir(cls), *(f.name for f in dataclasses.fields(cls))}
    properties = {n for n, v in vars(KINDS[kind]).items() if isinstance(v, property)}
    if missing := sorted(properties - names):
        raise RegistryError(f"a {kind} declares {missing}", where=where, got=cls.__qualname__)


def _functions(kind: type, cls: type) -> Iterator[tuple[str, list[str]]]:
    """The functions that a class of this kind has, with the arguments they are called with."""
    protocols = [kind]
    protocols += [Stateful] if hasattr(cls, "init") or hasattr(cls, "update") else []
    protocols += [AffineRowMap] if hasattr(cls, "affine") else []
    for protocol in protocols:
        for name, function in vars(protocol).items():
            if inspect.isfunction(function) and not name.startswith("_"):
                yield name, list(inspect.signature(function).parameters)


def _same_class(a: type, b: type) -> bool:
    """Whether one is a reload of the other, as happens in a notebook."""
    return (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)


def _distribution_of(name: str, cls: type) -> str:
    if cls.__module__.startswith(OWN_PACKAGE + "."):
        return OWN_DISTRIBUTION
    value = f"{cls.__module__}:{cls.__qualname__}"
    for point in _installed(_search_path()):
        if point.name == name and point.value == value:
            return _owner(point)
    return THIS_PROCESS


def _owner(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else THIS_PROCESS


def _duplicate(name: str, first: str, second: str) -> RegistryError:
    return RegistryError(
        f"two stages have the same name, one of {first} and one of {second}",
        where=name,
        got=[first, second],
        remedy="Rename one of them, or uninstall one of the distributions.",
    )
