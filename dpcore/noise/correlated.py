"""Noise that is correlated across steps: encode the clipped sums, decode what was released.

With C lower triangular, Toeplitz and b-banded, c its first column, a step releases

y_t = Σ_k c_k G_{t−k} + z_t,  z independent;  then  x_t = (y_t − Σ_{k ≥ 1} c_k x_{t−k})/c_0
                                              which is G_t + (C⁻¹ z)_t

A record that joined step t is in the encoded sums of steps t to t + b − 1, as c ⊗ its row: of
length ‖c‖₂ at most, if the row's is 1. The decoder reads released values only. docs/correlated-
noise.md has the argument.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from dpigu.dpcore.errors import PrivacyError
from dpigu.dpcore.grammar.pipeline import Pipeline
from dpigu.dpcore.grammar.spaces import Bounded
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from numpy.typing import NDArray
from torch import Tensor


class _Past(NamedTuple):
    """What one step leaves: its clipped sum (private), its decoded release, and how many steps
    each coordinate has been live."""

    sum_K: Tensor
    decoded_K: Tensor
    age_K: Tensor


class Correlation:
    """The steps of a phase that later ones need, in memory only: a new one starts afresh.

    A step may be released again, in its first place: what it left before is replaced.

    Args:
        stages: the phase's, with a factorisation.
        steps: of the phase.
        records: M, the most rows of one sum.

    Errors: `PrivacyError` for numbers that are not finite, or a first one that is not above 0.
    """

    def __init__(self, stages: Pipeline, steps: int, records: int) -> None:
        assert stages.factorisation is not None
        c, bands = stages.factorisation.coefficients(steps), stages.bands
        if not (len(c) == bands and all(map(math.isfinite, c)) and c[0] > 0):
            raise PrivacyError(
                "these are no coefficients of an encoder",
                where="Pipeline.factorisation",
                got=c,
                expected=f"{bands} finite numbers, the first above 0",
            )
        self._c = c
        self._length = math.hypot(*c) * (1 + (bands + 4) * UNIT_ROUNDOFF)
        self._length *= 1 + 2 * bands * (bands + 1) * records * UNIT_ROUNDOFF
        self._growth = torch.from_numpy(np.cumsum(inverse(c, steps) ** 2))
        self._sensitivity: float | None = None
        self._past: dict[int, _Past] = {}

    def encoded(self, step: int, guarded: Bounded) -> tuple[Tensor, Tensor]:
        """Σ_k c_k G_{t−k}, of this step's sum and of those before it, and how far one record moves
        the encoded sums of all steps together.

        That is ‖c‖₂ Δ (1 + 2 b (b + 1) M · 2⁻⁵³): a record joins one step in b, and the sums of b
        products, of M rows each, are computed in float64.
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
        encoded_K = self._c[0] * sum_K
        for k, past in self._before(step):
            encoded_K += self._c[k] * past.sum_K
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
        for k, past in self._before(step):
            decoded_K -= self._c[k] * past.decoded_K
            if k == 1:
                age_K = age_K + past.age_K
        decoded_K = torch.where(support_K, decoded_K / self._c[0], 0.0)
        self._past[step] = _Past(sum_K, decoded_K, age_K)
        self._past.pop(step - len(self._c), None)
        growth = self._growth.to(value_K.device)
        return decoded_K, variance_K * growth[(age_K - 1).clamp(min=0)]

    def _before(self, step: int) -> list[tuple[int, _Past]]:
        """The steps in reach of this one, with how long ago they were."""
        return [(k, self._past[step - k]) for k in range(1, len(self._c)) if step - k in self._past]


def inverse(coefficients: tuple[float, ...], steps: int) -> NDArray[np.float64]:
    """The first column of C⁻¹, of length n: w_t = (δ_t0 − Σ_{k ≥ 1} c_k w_{t−k})/c_0."""
    c = np.asarray(coefficients)
    w = np.zeros(steps + len(c) - 1)
    w[len(c) - 1] = 1 / c[0]
    for t in range(len(c), len(w)):
        w[t] = -(c[:0:-1] @ w[t - len(c) + 1 : t]) / c[0]
    return w[len(c) - 1 :]
