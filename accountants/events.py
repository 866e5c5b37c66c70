"""One reading of events for all accountants: a sorted list of (q, z, count).

Every event we charge is a composition of Poisson-sampled Gaussians. `flatten` reduces it to
that, so composition order cannot matter, and refuses everything else in one place.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from dpigu.dpcore.errors import AccountingError

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    Event: TypeAlias = "DpEvent | tuple[Term, ...]"
    """What an accountant is asked about: an event, or the canonical terms of one."""


@dataclass(frozen=True, order=True)
class Term:
    """`count` releases of a sum of a Poisson sample, each with Gaussian noise.

    Attributes:
        rate: q in (0, 1]; 1 is the plain Gaussian mechanism.
        noise_multiplier: z = standard deviation / clip bound; 0 is no guarantee.
        count: how many times it runs, at least 1.
    """

    rate: float
    noise_multiplier: float
    count: int


def flatten(event: Event) -> tuple[Term, ...]:
    """The canonical terms of an event: equal (q, z) merged, sorted, what is free dropped.

    Known are compositions, nested as deep as you like, of no-ops, non-private events (z = 0),
    Gaussians and Poisson samples of these; Gaussians on one sample are one joint Gaussian,
    z = (Σ_k z_k⁻²)^(−1/2).

    Raises:
        AccountingError: any other event, wherever it is nested, even where it never runs;
            subclasses of the known events too, since they may mean something else.
    """
    if isinstance(event, tuple):  # terms need no library, whose import is slow
        return _merged((term.rate, term.noise_multiplier, term.count) for term in event)
    from dp_accounting import dp_event

    found = []
    for leaf, count, path in _leaves(event, 1, ()):
        if type(leaf) is dp_event.PoissonSampledDpEvent:
            rate = _number(leaf.sampling_probability, path, "sampling_probability", upper=1.0)
            inner = tuple(_leaves(leaf.event, 1, (path, ".event")))
        else:
            rate, inner = 1.0, ((leaf, 1, path),)
        found.append((rate, _joint([(_noise_multiplier(e, p), n) for e, n, p in inner]), count))
    return _merged(found)


def _merged(releases: Iterable[tuple[float, float, int]]) -> tuple[Term, ...]:
    """Rates, multipliers and counts as sorted terms, without what is free."""
    counts: Counter[tuple[float, float]] = Counter()
    for rate, z, count in releases:
        if rate > 0 and count > 0 and z < math.inf:
            counts[rate, z] += count
    return tuple(sorted(Term(q, z, n) for (q, z), n in counts.items()))


def has_guarantee(terms: tuple[Term, ...]) -> bool:
    """Whether every term is noised."""
    return all(term.noise_multiplier > 0 for term in terms)


def joined_gaussian(term: Term) -> Term:
    """Without sampling, n Gaussians of multiplier z are one of z/√n; else the term itself."""
    if term.rate < 1 or term.count == 1:
        return term
    return Term(1.0, term.noise_multiplier / math.sqrt(term.count), 1)


_Path = tuple[Any, ...]  # () or (parent path, step): linked, so that deep nesting is cheap


def _leaves(event: DpEvent, count: int, path: _Path) -> Iterator[tuple[DpEvent, int, _Path]]:
    """Everything in an event that is not a composition, with how often it runs."""
    from dp_accounting import dp_event

    stack = [(event, count, path)]
    while stack:
        event, count, path = stack.pop()
        if type(event) is dp_event.SelfComposedDpEvent:
            stack.append((event.event, count * _count(event.count, path), (path, ".event")))
        elif type(event) is dp_event.ComposedDpEvent and isinstance(event.events, list | tuple):
            children = [(e, count, (path, f".events[{i}]")) for i, e in enumerate(event.events)]
            stack.extend(reversed(children))
        else:
            yield event, count, path


def _noise_multiplier(event: DpEvent, path: _Path) -> float:
    """z of a leaf: ∞ for a no-op, 0 for a non-private event."""
    from dp_accounting import dp_event

    if type(event) is dp_event.NoOpDpEvent:
        return math.inf
    if type(event) is dp_event.NonPrivateDpEvent:
        return 0.0
    if type(event) is dp_event.GaussianDpEvent:
        return _number(event.noise_multiplier, path, "noise_multiplier", upper=math.inf)
    raise AccountingError(
        f"{type(event).__name__} is not an event that the accountants know here",
        where=_where(path),
        got=type(event).__name__,
        expected="Poisson-sampled or plain Gaussians, no-ops, non-private events, composed",
        remedy="Emit one of these, or account for the mechanism with a tool that knows it.",
    )


def _joint(gaussians: list[tuple[float, int]]) -> float:
    """(Σ n/z²)^(−1/2), exact for a single Gaussian and free of under- and overflow."""
    noised = [(z, n) for z, n in gaussians if n > 0 and z < math.inf]
    smallest = min((z for z, _ in noised), default=math.inf)
    if smallest == 0 or not noised:
        return smallest
    return smallest / math.sqrt(math.fsum(n * (smallest / z) ** 2 for z, n in noised))


def _count(count: object, path: _Path) -> int:
    try:
        whole = operator.index(count)  # type: ignore[arg-type]  # the try is the type check
    except TypeError:
        whole = -1
    if whole < 0:
        _refuse_number("a count of compositions", path, ".count", count, "a whole number ≥ 0")
    return whole


def _number(value: float, path: _Path, field: str, *, upper: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0.0 <= number <= upper and math.isfinite(number)):
        expected = "0 ≤ q ≤ 1" if upper == 1.0 else "finite and ≥ 0"
        _refuse_number(f"a {field.replace('_', ' ')}", path, f".{field}", value, expected)
    return number


def _refuse_number(what: str, path: _Path, field: str, got: object, expected: str) -> NoReturn:
    raise AccountingError(
        f"{what} that no mechanism can have",
        where=_where((path, field)),
        got=got,
        expected=expected,
        remedy="Mend the pipeline or sampler that emitted the event.",
    )


def _where(path: _Path, limit: int = 100) -> str:
    steps: list[str] = []
    while path:
        path, step = path
        steps.append(step)
    line = "event" + "".join(reversed(steps))
    return line if len(line) <= limit else "event…" + line[-limit:]
