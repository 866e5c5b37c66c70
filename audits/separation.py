"""What tells two sets of traces apart: statistics, the search for the best one, and a rule from it.

A statistic reads what was released and what the adversary knows. It is chosen, and its threshold
fixed, on runs that no test counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from audits.courses import RECORDS, Step, Trace
from audits.trials import Errors, Kind

Floats = NDArray[np.float64]
Traces = Sequence[Trace]
Part = Literal["released vectors", "states"]

HUGE = 1e300
"""Stands for a value that is not a number."""
CHANCE = 0.01
"""How often the best of all statistics may seem to separate runs that it does not."""
CLEARLY = 1.25


@dataclass(frozen=True)
class Statistic:
    """A number for every trace, and what it is in words."""

    label: str
    values: Callable[[Traces], Floats]

    def __call__(self, traces: Traces) -> Floats:
        """One finite number a trace; what is not a number counts as very large."""
        return np.nan_to_num(self.values(traces), nan=HUGE, posinf=HUGE, neginf=-HUGE)


def _likelihood(traces: Traces) -> Floats:
    """Σ_t ⟨N · noised_t, e_t⟩/(σ_t C_t)² + Σ_queries likewise; e_t is the row's expected share.

    For a Gaussian mechanism it orders traces by their likelihood ratio up to a known shift, so
    that no statistic separates them better (Neyman and Pearson 1933).
    """
    values = np.zeros(len(traces))
    for i, trace in enumerate(traces):
        if trace.stopped:
            values[i] = HUGE
            continue
        for step in trace.steps:
            scale = (step.sigma * step.bound) ** 2
            values[i] += RECORDS * float(step.release.noised.value @ step.expected_K) / scale
            for name, answer in step.answers.items():
                scale = (step.sigma * answer.noise_ratio * answer.bound) ** 2
                value = step.release.queries[name].value
                values[i] += RECORDS * float(value @ answer.vector) / scale
    return values


LIKELIHOOD = Statistic("the likelihood ratio of all released vectors", _likelihood)


def _stopped(traces: Traces) -> Floats:
    return np.array([float(trace.stopped) for trace in traces])


STOPPED = Statistic("whether a step was refused", _stopped)
SUMMARIES = ("square length", "number of zeros", "number of entries that are not finite")


@dataclass(frozen=True)
class Separation:
    """How far apart a statistic keeps the two sides: |difference of means| / deviation.

    `sure` is what is left after what chance gives to the best of as many statistics.
    """

    statistic: Statistic
    distance: float
    sure: float


def likelihood_separation(without: Traces, with_: Traces) -> Separation:
    """How far the likelihood ratio keeps the two sides apart: μ, for a Gaussian mechanism."""
    sides = [LIKELIHOOD(traces)[:, None] for traces in (without, with_)]
    return _best([(LIKELIHOOD.label, LIKELIHOOD.values, _distances(*sides)[0])], len(without))


def search(without: Traces, with_: Traces, part: Part) -> Separation:
    """The statistic of the released vectors, or of the states, that separates the sides most.

    Tried are every entry of every tensor at every step, and each tensor's square length, number
    of zeros, number of entries that are not finite, and product with the row's expected share.
    """
    sides = [STOPPED(traces)[:, None] for traces in (without, with_)]
    found = [(STOPPED.label, STOPPED.values, float(_distances(*sides)[0]))]
    running = [[t for t in traces if not t.stopped] for traces in (without, with_)]
    for at, step in enumerate(running[0][0].steps if all(running) else ()):
        for name in observed(step, part):
            columns = partial(_columns, at=at, part=part, name=name)
            distances = _distances(columns(running[0]), columns(running[1]))
            for j, distance in enumerate(distances.tolist()):
                label = f"{_entry(j, len(distances))} of {name} at step {at + 1}"
                found.append((label, partial(_column, columns, j), distance))
    return _best(found, len(without))


def observed(step: Step, part: Part) -> dict[str, Tensor]:
    """Every tensor of that part that a step made public, by name."""
    if part == "states":
        states = {f"{n}.{k}": t for n, state in step.states.items() for k, t in state.items()}
        return states
    release = step.release
    found = {"the support": release.support_D}
    pairs = {"the gradient": release.gradient, "the noised sum": release.noised}
    for name, value in {**pairs, **release.queries}.items():
        found |= {name: value.value, f"the variance of {name}": value.variance}
    return found


def _entry(j: int, count: int) -> str:
    """What column j of `_columns` is."""
    names = (*SUMMARIES, "product with the row")
    own = count - len(names)
    return f"entry {j}" if j < own else f"the {names[j - own]}"


def _columns(traces: Traces, at: int, part: Part, name: str) -> Floats:
    """Every entry of a tensor, and its summaries; one row a trace, NaN for one that stopped."""
    rows = [observed(t.steps[at], part)[name].detach().numpy() for t in traces]
    x = np.stack([row.reshape(-1) for row in rows]).astype(np.float64)
    e = np.stack([t.steps[at].expected_K.numpy() for t in traces])
    with np.errstate(invalid="ignore", over="ignore"):
        energy, product = (x**2).sum(1), (x * e).sum(1) if x.shape == e.shape else 0 * x[:, 0]
    zeros, wild = (x == 0).sum(1), (~np.isfinite(x)).sum(1)
    return np.column_stack([x, energy, zeros, wild, product])


def _column(columns: Callable[[Traces], Floats], j: int, traces: Traces) -> Floats:
    values = np.full(len(traces), HUGE)
    running = [i for i, trace in enumerate(traces) if not trace.stopped]
    if running:
        values[running] = columns([traces[i] for i in running])[:, j]
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


def _best(found: Sequence[tuple[str, Callable[[Traces], Floats], float]], runs: int) -> Separation:
    """The statistic of largest distance, and that distance without what chance may give."""
    label, values, distance = max(found, key=lambda one: one[2])
    quantile = float(student.isf(CHANCE / len(found), max(1, 2 * runs - 2)))
    sure = distance - quantile * math.sqrt(2 / runs)
    return Separation(Statistic(label, values), distance, max(0.0, sure))


@dataclass(frozen=True)
class Rule:
    """Guess "with the record" where sign · statistic > threshold; tested by its errors."""

    statistic: Statistic
    sign: int
    threshold: float
    kind: Kind

    def guesses(self, traces: Traces) -> NDArray[np.bool_]:
        """The guess for every trace."""
        return np.asarray(self.sign * self.statistic(traces) > self.threshold)


def rule(statistic: Statistic, without: Traces, with_: Traces, level: float) -> Rule:
    """The rule that training runs suggest: half-way between the medians, or at the best pair.

    Half-way is best for two Gaussians. Where the errors of one side alone can be avoided, the
    threshold with the largest bound from the pair of error rates takes its place, if that is
    clearly larger (the largest of many looks large by chance).
    """
    x, y = statistic(without), statistic(with_)
    higher = (y[:, None] > x).mean() + 0.5 * (y[:, None] == x).mean()
    sign = 1 if higher >= 0.5 else -1
    x, y = sign * x, sign * y
    middle = float((np.median(x) + np.median(y)) / 2)
    best = max(_thresholds(x, y), key=lambda at: _errors(x, y, at).mu_bound(level, "pair"))
    total = _errors(x, y, middle).mu_bound(level, "total")
    if _errors(x, y, best).mu_bound(level, "pair") > CLEARLY * total:
        return Rule(statistic, sign, best, "pair")
    return Rule(statistic, sign, middle, "total")


def _thresholds(x: Floats, y: Floats) -> Iterator[float]:
    """At most a hundred thresholds between values."""
    values = np.unique(np.concatenate([x, y]))
    between = (values[1:] / 2 + values[:-1] / 2) if len(values) > 1 else values
    yield from np.quantile(between, np.linspace(0, 1, 101), method="nearest").tolist()


def _errors(x: Floats, y: Floats, threshold: float) -> Errors:
    false_positives, false_negatives = int((x > threshold).sum()), int((y <= threshold).sum())
    return Errors(false_positives=false_positives, false_negatives=false_negatives, runs=len(x))
