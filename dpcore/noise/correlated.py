"""Noise that is correlated across steps: encode the clipped sums, decode what was released.

With C lower triangular and Toeplitz, c its first column, a step releases

y_t = Σ_k c_k G_{t−k} + z_t,  z independent;  then  x_t = (y_t − Σ_{k ≥ 1} c_k x_{t−k})/c_0
                                              which is G_t + (C⁻¹ z)_t

A record joins one step in b. If C has b bands, it is in the encoded sums of steps t to t + b − 1,
as c ⊗ its row: of length ‖c‖₂ at most, if the row's is 1. If C has no end, it is in all that
follow, and its turns overlap. The decoder reads released values only. docs/correlated-noise.md
has the argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from dpigu.dpcore.devices import to_device
from dpigu.dpcore.errors import PrivacyError
from dpigu.dpcore.grammar.pipeline import Pipeline
from dpigu.dpcore.grammar.spaces import Bounded
from dpigu.dpcore.grammar.stages import Endless, Factorisation
from dpigu.dpcore.ranks import ALONE, Ranks
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from numpy.typing import NDArray
from torch import Tensor


class _Past(NamedTuple):
    """What one step leaves: its clipped sum (private), its decoded release, and how many steps
    each coordinate has been live; or decayed sums of the first two."""

    sum_K: Tensor
    decoded_K: Tensor
    age_K: Tensor


class _Memory(Protocol):
    """The past of a step: what its sum and its release are mixed with, and by which numbers."""

    roundings: int
    """Of one term of an encoded sum, at most."""

    def before(self, step: int) -> list[tuple[float, _Past]]:
        """Σ_{k ≥ 1} c_k of the steps before, as products; the first has the age at step t − 1."""
        ...

    def keep(self, step: int, past: _Past) -> None:
        """What the step leaves; a step that was kept before is replaced."""
        ...


class _Bands:
    """The b − 1 steps before, one by one."""

    def __init__(self, c: Sequence[float]) -> None:
        self._c, self._past = c, dict[int, _Past]()
        self.roundings = len(c) + 1

    def before(self, step: int) -> list[tuple[float, _Past]]:
        near = range(1, len(self._c))
        return [(self._c[k], self._past[step - k]) for k in near if step - k in self._past]

    def keep(self, step: int, past: _Past) -> None:
        self._past[step] = past
        self._past.pop(step - len(self._c), None)


class _Buffers:
    """All steps before, as d decayed sums: S_i ← θ_i S_i + G_t, and Σ_i ω_i S_i is
    Σ_{k ≥ 1} c_k G_{t−k}. They move on when a later step asks."""

    def __init__(self, buffers: Sequence[tuple[float, float]], steps: int) -> None:
        self._buffers = buffers
        self._entered: list[_Past] = []
        self._left: _Past | None = None
        self._step = -1
        self.roundings = 2 * steps + len(buffers) + 3

    def before(self, step: int) -> list[tuple[float, _Past]]:
        if step != self._step:
            left, self._left, self._step = self._left, None, step
            self._entered = [] if left is None else self._moved(left)
        weights = [omega for omega, _ in self._buffers]
        return list(zip(weights, self._entered, strict=False))

    def keep(self, step: int, past: _Past) -> None:
        self._left = past

    def _moved(self, left: _Past) -> list[_Past]:
        if not self._entered:
            return [left] * len(self._buffers)
        return [
            _Past(theta * s.sum_K + left.sum_K, theta * s.decoded_K + left.decoded_K, left.age_K)
            for (_, theta), s in zip(self._buffers, self._entered, strict=True)
        ]


def _positive(buffers: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """The buffers; ones that cancel round by more than the numbers of their column tell."""
    if not all(0 <= weight < math.inf and 0 <= decay < 1 for weight, decay in buffers):
        raise PrivacyError(
            "buffers of these numbers may cancel, and the rounding of that is in no sensitivity",
            where="Pipeline.factorisation",
            got=buffers,
            expected="(ω, θ) with 0 ≤ ω and 0 ≤ θ < 1",
        )
    return buffers


class _Numbers(NamedTuple):
    """What the steps of a phase compute with: C's first column, the buffers of one without an end,
    how long the encoded sums of a record are (`length_of`), and the first sums of (c⁻¹)_k²."""

    c: tuple[float, ...]
    buffers: tuple[tuple[float, float], ...]
    length: float
    growth_T: Tensor


def _numbers(factorisation: Factorisation, turns: int, steps: int) -> _Numbers:
    """The numbers of a factorisation; those of another machine may have other last bits."""
    buffers: tuple[tuple[float, float], ...] = ()
    if isinstance(factorisation, Endless):
        buffers = _positive(factorisation.buffers(steps))
        c, expected = column_of(buffers, steps), steps
    else:
        c, expected = factorisation.coefficients(steps), turns
    if not (len(c) == expected and all(map(math.isfinite, c)) and c[0] > 0):
        raise PrivacyError(
            "these are no coefficients of an encoder",
            where="Pipeline.factorisation",
            got=c,
            expected=f"{expected} finite numbers, the first above 0",
        )
    growth_T = torch.from_numpy(np.cumsum(inverse(c, steps) ** 2))
    return _Numbers(c, buffers, length_of(c, turns), growth_T)


class Correlation:
    """The steps of a phase that later ones need, in memory only: a new one starts afresh.

    A step may be released again, in its first place: what it left before is replaced.

    Args:
        stages: the phase's, with a factorisation.
        steps: of the phase.
        records: M, the most rows of one sum.
        ranks: who steps together: all compute with the first one's numbers.

    Attributes:
        sums: in how many encoded sums a record is, at most, until a later event pays.
        spread: by how much more rows an encoded sum is long, at most: ‖c‖₁/‖c‖₂.

    Errors: `PrivacyError` for numbers that are not finite, a first one that is not above 0, or
    buffers that may cancel.
    """

    def __init__(self, stages: Pipeline, steps: int, records: int, ranks: Ranks = ALONE) -> None:
        factorisation, turns = stages.factorisation, stages.bands
        assert factorisation is not None
        c, buffers, length, growth_T = ranks.agreed(lambda: _numbers(factorisation, turns, steps))
        self.sums = steps if stages.endless else turns
        self._past: _Memory = _Buffers(buffers, steps) if stages.endless else _Bands(c)
        self._first = c[0]
        self.spread = math.ceil(math.fsum(map(abs, c)) / math.hypot(*c))
        self._length = length * (1 + (2 * self.sums + 8) * UNIT_ROUNDOFF)
        self._length *= 1 + 2 * self.sums * self._past.roundings * records * UNIT_ROUNDOFF
        self._growth = growth_T
        self._sensitivity: float | None = None

    def encoded(self, step: int, guarded: Bounded) -> tuple[Tensor, Tensor]:
        """Σ_k c_k G_{t−k}, of this step's sum and of those before it, and how far one record moves
        the encoded sums of all steps together.

        That is L Δ (1 + 2 n m M · 2⁻⁵³), L the length of what all its turns leave, as if they were
        one row: a record is in n sums, of M rows, in which each term is rounded m times.
        """
        sum_K, sensitivity = guarded.value, float(guarded.sensitivity)
        if self._sensitivity is None:
            self._sensitivity = sensitivity
        if sensitivity != self._sensitivity:
            raise PrivacyError(
                "the clipping bound moved within a factorisation",
                where="Kernel.release",
                got=sensitivity,
                expected=self._sensitivity,
                remedy="Clip at one bound, or leave out the factorisation.",
            )
        encoded_K = self._first * sum_K
        for weight, past in self._past.before(step):
            encoded_K += weight * past.sum_K
        return encoded_K, guarded.sensitivity * self._length

    def decoded(
        self, step: int, sum_K: Tensor, support_K: Tensor, value_K: Tensor, variance_K: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x_t and its variance, from what was released; and this step is kept for later ones.

        The variance of x_t is that of z times Σ_{k < age} (c⁻¹)_k², where a coordinate has been
        live for so many steps.
        """
        decoded_K = value_K.clone()
        age_K = support_K.to(torch.int64)
        before = self._past.before(step)
        for weight, past in before:
            decoded_K -= weight * past.decoded_K
        if before:
            age_K = age_K + before[0][1].age_K
        decoded_K = torch.where(support_K, decoded_K / self._first, 0.0)
        self._past.keep(step, _Past(sum_K, decoded_K, age_K))
        self._growth = to_device(self._growth, value_K.device)
        return decoded_K, variance_K * self._growth[(age_K - 1).clamp(min=0)]


def column_of(buffers: Sequence[tuple[float, float]], steps: int) -> tuple[float, ...]:
    """The first column of C, of length n: c_0 = 1, c_k = Σ_i ω_i θ_i^{k−1}."""
    falls = [math.fsum(omega * theta**k for omega, theta in buffers) for k in range(steps - 1)]
    return (1.0, *falls)


def length_of(c: Sequence[float], turns: int) -> float:
    """How long the encoded sums of a record of row 1 are that takes all its turns, one in b.

    √Σ_t (Σ_j |c_{t−jb}|)², over the length of c. Rows of length 1 that differ from turn to turn,
    and turns that are not taken, make it no longer.
    """
    reach = np.abs(np.asarray(c, dtype=np.float64))
    met = np.zeros(-(-len(c) // turns) * turns)
    met[: len(c)] = reach
    met = met.reshape(-1, turns).cumsum(0).reshape(-1)[: len(c)]
    return float(np.linalg.norm(met))


def inverse(coefficients: Sequence[float], steps: int) -> NDArray[np.float64]:
    """The first column of C⁻¹, of length n: w_t = (δ_t0 − Σ_{k ≥ 1} c_k w_{t−k})/c_0."""
    c = np.asarray(coefficients)
    w = np.zeros(steps + len(c) - 1)
    w[len(c) - 1] = 1 / c[0]
    for t in range(len(c), len(w)):
        w[t] = -(c[:0:-1] @ w[t - len(c) + 1 : t]) / c[0]
    return w[len(c) - 1 :]
