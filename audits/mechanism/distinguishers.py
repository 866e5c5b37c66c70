"""What tells two sets of traces apart: distinguishers, the best one, and a rule from it.

A distinguisher is a statistic of a trace: it reads what was released and what the adversary
knows. It is chosen, and its threshold fixed, on runs that no test counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from dpigu.audits.mechanism.traces import RECORDS, ReleasedStep, Trace
from dpigu.audits.statistics import Criterion, ErrorCounts
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

Floats = NDArray[np.float64]
Traces = Sequence[Trace]
Part = Literal["released vectors", "states"]

HUGE = 1e300
"""Stands for a value that is not a number."""
CHANCE = 5e-4
"""How often the best distinguisher of one situation may seem to separate what it does not."""
CLEARLY = 1.25


@dataclass(frozen=True)
class Distinguisher:
    """A number for every trace, and what it is in words."""

    label: str
    values: Callable[[Traces], Floats]

    def __call__(self, traces: Traces) -> Floats:
        """One finite number a trace; what is not a number counts as very large."""
        return np.nan_to_num(self.values(traces), nan=HUGE, posinf=HUGE, neginf=-HUGE)


def _likelihood(traces: Traces) -> Floats:
    """Σ_t ⟨N · noised_t, e_t⟩/(σ_t C_t)² + Σ_queries likewise; e_t is the row's expected share.

    For a Gaussian mechanism it orders traces by their likelihood ratio up to a known shift, so
    that no distinguisher separates them better (Neyman and Pearson 1933).
    """
    values = np.full(len(traces), HUGE)
    for i, trace in enumerate(traces):
        if not trace.stopped:
            parts = [part for step in trace.steps for part in _shares(step)]
            values[i] = RECORDS * sum(float(seen @ e) / scale**2 for seen, e, scale in parts)
    return values


def expected_distance(traces: Traces) -> float:
    """√(Σ_t ‖e_t‖²/(σ_t C_t)² + Σ_queries likewise), its mean: what a correct kernel would show
    by the likelihood ratio, if the record is added or removed."""
    squares = [
        sum(float(e @ e) / scale**2 for step in trace.steps for _, e, scale in _shares(step))
        for trace in traces
    ]
    return float(np.sqrt(squares).mean())


def _shares(step: ReleasedStep) -> Iterator[tuple[Tensor, Tensor, float]]:
    """What was released, the record's expected share e of it, and the noise's scale."""
    yield step.release.noised.value, step.expected_K, step.sigma * step.bound
    for name, answer in step.answers.items():
        scale = step.sigma * answer.noise_ratio * answer.bound
        yield step.release.queries[name].value, answer.vector, scale


LIKELIHOOD = Distinguisher("the likelihood ratio of all released vectors", _likelihood)


def _stopped(traces: Traces) -> Floats:
    return np.array([float(trace.stopped) for trace in traces])


STOPPED = Distinguisher("whether a step was refused", _stopped)


@dataclass(frozen=True)
class Separation:
    """How far apart a distinguisher keeps the two sides: |difference of means| / deviation.

    `sure` is what is left after what chance gives to the best of as many distinguishers.
    """

    distinguisher: Distinguisher
    distance: float
    sure: float


def likelihood_separation(without: Traces, with_: Traces) -> Separation:
    """How far the likelihood ratio keeps the two sides apart: μ, for a Gaussian mechanism."""
    distance = _distances(*(LIKELIHOOD(traces)[:, None] for traces in (without, with_)))[0]
    return _separation(LIKELIHOOD, float(distance), 1, len(without))


def search(without: Traces, with_: Traces, part: Part) -> Separation:
    """The distinguisher by the released vectors, or by the states, that separates the sides most.

    Tried are every entry of every tensor at every step, and each tensor's square length, number
    of zeros, number of entries that are not finite, and product with the row's expected share.
    """
    distance = float(_distances(*(STOPPED(traces)[:, None] for traces in (without, with_)))[0])
    best, tried = (STOPPED, distance), 1
    running = [[t for t in traces if not t.stopped] for traces in (without, with_)]
    for at in range(len(running[0][0].steps) if all(running) else 0):
        one, other = (_table(traces, at, part) for traces in running)
        distances = _distances(one.columns, other.columns)
        j = int(distances.argmax()) if len(distances) else 0
        tried += len(distances)
        if len(distances) and distances[j] > best[1]:
            label = f"{one.label(j)} at step {at + 1}"
            best = (Distinguisher(label, partial(_column, at, part, j)), float(distances[j]))
    return _separation(*best, tried, len(without))


def observed(step: ReleasedStep, part: Part) -> dict[str, Tensor]:
    """Every tensor of that part that a step made public, by name."""
    if part == "states":
        return {f"{n}.{k}": t for n, state in step.states.items() for k, t in state.items()}
    release = step.release
    found = {"the support": release.support_D}
    pairs = {"the gradient": release.gradient, "the noised sum": release.noised}
    for name, value in {**pairs, **release.queries}.items():
        found |= {name: value.value, f"the variance of {name}": value.variance}
    found["the gradient beyond the posts of the noised sum"] = step.beyond_D
    if release.gradient.value.shape == release.noised.value.shape:
        jointly = release.gradient.value - release.noised.value
        found["the gradient less the noised sum"] = jointly
    return found


@dataclass(frozen=True)
class _Table:
    """One row a trace: every entry of every tensor, then the tensors' summaries, kind by kind."""

    names: list[str]
    starts: NDArray[np.int64]
    entries: int
    products: list[str]
    columns: Floats

    def label(self, j: int) -> str:
        """What column j is."""
        if j < self.entries:
            tensor = int(np.searchsorted(self.starts, j, side="right")) - 1
            return f"entry {j - self.starts[tensor]} of {self.names[tensor]}"
        summary, tensor = divmod(j - self.entries, len(self.names))
        if summary < len(SUMMARIES):
            return f"{SUMMARIES[summary]} {self.names[tensor]}"
        place = j - self.entries - len(SUMMARIES) * len(self.names)
        return f"the product with the row of {self.products[place]}"


SUMMARIES = ("the square length of", "the zeros of", "the entries that are not finite of")


def _table(traces: Traces, at: int, part: Part) -> _Table:
    """All that a step showed in that part, for every trace; tensors without entries left out."""
    rows = [
        [t.detach().numpy().reshape(-1) for t in observed(trace.steps[at], part).values()]
        for trace in traces
    ]
    kept = [i for i, row in enumerate(rows[0]) if len(row)]
    every = list(observed(traces[0].steps[at], part))
    names, sizes = [every[i] for i in kept], [len(rows[0][i]) for i in kept]
    starts = np.cumsum([0, *sizes])[:-1]
    if not names:
        return _Table(names, starts, 0, [], np.zeros((len(traces), 0)))
    x = np.stack([np.concatenate([row[i] for i in kept]) for row in rows]).astype(np.float64)
    e = np.stack([trace.steps[at].expected_K.numpy() for trace in traces])
    fits = [(name, a) for name, a, n in zip(names, starts, sizes, strict=True) if n == e.shape[1]]
    with np.errstate(invalid="ignore", over="ignore"):
        measures = [x**2, (x == 0).astype(float), (~np.isfinite(x)).astype(float)]
        summaries = [np.add.reduceat(measure, starts, axis=1) for measure in measures]
        products = [(x[:, a : a + e.shape[1]] * e).sum(1)[:, None] for _, a in fits]
    columns = np.concatenate([x, *summaries, *products], axis=1)
    return _Table(names, starts, x.shape[1], [name for name, _ in fits], columns)


def _column(at: int, part: Part, j: int, traces: Traces) -> Floats:
    """One column of the table, `HUGE` for a trace that stopped."""
    values = np.full(len(traces), HUGE)
    running = [i for i, trace in enumerate(traces) if not trace.stopped]
    if running:
        values[running] = _table([traces[i] for i in running], at, part).columns[:, j]
    return values


def _distances(x: Floats, y: Floats) -> Floats:
    """|mean x − mean y| / √((var x + var y)/2) for every column; ∞ where nothing varies."""
    with np.errstate(all="ignore"):
        x, y = (np.where(np.isfinite(v) & (np.abs(v) < HUGE), v, 0.0) for v in (x, y))
        gap = np.abs(x.mean(0) - y.mean(0))
        spread = np.sqrt((x.var(0) + y.var(0)) / 2)
        tiny = 1e-12 * np.maximum(np.abs(x).max(0), np.abs(y).max(0))
        distances = np.where(spread > tiny, gap / spread, np.inf)
        return np.where((gap > tiny) & np.isfinite(gap), distances, 0.0)


def _separation(distinguisher: Distinguisher, distance: float, tried: int, runs: int) -> Separation:
    """The best of so many distinguishers: its distance, and what chance would leave of it."""
    quantile = float(student.isf(CHANCE / tried, max(1, 2 * runs - 2)))
    return Separation(distinguisher, distance, max(0.0, distance - quantile * math.sqrt(2 / runs)))


@dataclass(frozen=True)
class Rule:
    """Guess "with the record" where sign · distinguisher > threshold; tested by its errors."""

    distinguisher: Distinguisher
    sign: int
    threshold: float
    criterion: Criterion

    def guesses(self, traces: Traces) -> NDArray[np.bool_]:
        """The guess for every trace."""
        return np.asarray(self.sign * self.distinguisher(traces) > self.threshold)


def rule(distinguisher: Distinguisher, without: Traces, with_: Traces, level: float) -> Rule:
    """The rule that training runs suggest: half-way between the medians, or at the best pair.

    Half-way is best for two Gaussians. Where the errors of one side alone can be avoided, the
    threshold with the largest bound from the pair of error rates takes its place, if that is
    clearly larger (the largest of many looks large by chance).
    """
    x, y = distinguisher(without), distinguisher(with_)
    higher = (y[:, None] > x).mean() + 0.5 * (y[:, None] == x).mean()
    sign = 1 if higher >= 0.5 else -1
    x, y = sign * x, sign * y
    middle = float((np.median(x) + np.median(y)) / 2)
    best = max(_thresholds(x, y), key=lambda at: _errors(x, y, at).mu_bound(level, "pair"))
    total = _errors(x, y, middle).mu_bound(level, "total")
    if _errors(x, y, best).mu_bound(level, "pair") > CLEARLY * total:
        return Rule(distinguisher, sign, best, "pair")
    return Rule(distinguisher, sign, middle, "total")


def _thresholds(x: Floats, y: Floats) -> Iterator[float]:
    """At most a hundred thresholds between values."""
    values = np.unique(np.concatenate([x, y]))
    between = (values[1:] / 2 + values[:-1] / 2) if len(values) > 1 else values
    yield from np.quantile(between, np.linspace(0, 1, 101), method="nearest").tolist()


def _errors(x: Floats, y: Floats, threshold: float) -> ErrorCounts:
    false_positives, false_negatives = int((x > threshold).sum()), int((y <= threshold).sum())
    return ErrorCounts(
        false_positives=false_positives, false_negatives=false_negatives, runs=len(x)
    )
