"""Factorisations: noise that a step shares with the steps after it, which cancel some of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dpigu.dpcore import register
from dpigu.dpcore.noise.correlated import inverse
from dpigu.mechanisms.validate import require
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@register("factorisation", "banded-toeplitz")
@dataclass(frozen=True, kw_only=True)
class BandedToeplitz:
    """The b-banded Toeplitz encoder whose decoded noise adds up to least in the weights.

    C minimises (1/n) ‖A C⁻¹‖_F² · ‖c‖₂²,  c its first column, A_{t,j} = Σ_{i ≤ t−j} μ^i

    A adds up what gradients do to the weights under momentum μ; without momentum they are prefix
    sums. Noise then has mean squared error (1/n)‖A C⁻¹‖_F² · (σ‖c‖C)² in the weights, each
    coordinate, for a learning rate of 1. A record joins one step in b, at b times the rate, so
    that σ is that of n/b steps at rate b·q: larger than for n steps at q. Few bands cost little
    and cancel little, and the best number depends on ε: `mean_error` compares.

    Args:
        bands: b, at least 1; 1 is independent noise. b · q is at most 1.
        momentum: μ, of the optimizer, in [0, 1).
        column: c itself, in place of the best: b numbers, the first above 0.

    Source: Choquette-Choo et al. 2023 (arXiv 2306.08153), BandMF; Toeplitz, and optimised by
    L-BFGS from the coefficients that are best without bands: McKenna 2024 (arXiv 2405.15913);
    these: Fichtenberger, Henzinger and Upadhyay 2022 (arXiv 2202.11205).
    Privacy: public numbers, of b and the number of steps; the kernel computes the sensitivity of
    what it encodes with them; checked by tests/laws/test_correlated_noise.py.
    """

    bands: int = 4
    momentum: float = 0.0
    column: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(self.bands >= 1, self, "bands", "at least 1")
        require(0 <= self.momentum < 1, self, "momentum", "a number in [0, 1)")
        known = len(self.column) in (0, self.bands) and all(map(math.isfinite, self.column))
        positive = not self.column or self.column[0] > 0
        require(known and positive, self, "column", "b finite numbers, the first above 0")

    def coefficients(self, steps: int) -> tuple[float, ...]:
        return self.column or optimal_column(steps, self.bands, self.momentum)


def mean_error(column: tuple[float, ...], steps: int, momentum: float = 0.0) -> float:
    """√((1/n) ‖A C⁻¹‖_F²) · ‖c‖₂: the root mean squared error per unit of σC.

    Independent noise, c = (1,), without momentum has √((n + 1)/2).
    """
    return math.sqrt(squared_error(np.asarray(column), workload(steps, momentum))[0])


@lru_cache(maxsize=64)
def optimal_column(steps: int, bands: int, momentum: float = 0.0) -> tuple[float, ...]:
    """The column of length 1, of b falling numbers above 0, with the least mean error over n steps.

    c_k = Π_{i ≤ k} r_i with r in (0, 1): where the column falls, C⁻¹ does not grow.
    """
    from scipy.optimize import minimize  # slow to load
    from scipy.special import expit, logit

    free = min(bands, steps) - 1
    a = workload(steps, momentum)

    def objective(logits: Vector) -> tuple[float, Vector]:
        ratios = expit(logits)
        c = np.cumprod(np.concatenate([[1.0], ratios]))
        error, slope = squared_error(c, a)
        later = np.cumsum((slope * c)[::-1])[::-1][1:]
        return math.log(error), (1 - ratios) * later / error

    start = logit([(2 * k - 1) / (2 * k) for k in range(1, free + 1)])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15})
    best = np.cumprod(np.concatenate([[1.0], expit(found.x), np.zeros(bands - 1 - free)]))
    return tuple((best / np.linalg.norm(best)).tolist())


def workload(steps: int, momentum: float) -> Vector:
    """a, the first column of A: a_t = Σ_{i ≤ t} μ^i."""
    return np.cumsum(momentum ** np.arange(steps))


def squared_error(c: Vector, workload: Vector) -> tuple[float, Vector]:
    """(1/n) ‖A C⁻¹‖_F² ‖c‖², and its slope in c."""
    error, slope = noise_in_weights(c, workload)
    length = float(c @ c)
    return error * length, slope * length + 2 * error * c


def noise_in_weights(c: Vector, workload: Vector) -> tuple[float, Vector]:
    """(1/n) ‖A C⁻¹‖_F², and its slope in c.

    With w = c⁻¹ (a power series) and v = a·w: ‖A C⁻¹‖_F² = Σ_t (n − t) v_t², and
    ∂v_t/∂c_j = −(v·w)_{t−j}.
    """
    steps = len(workload)
    w = inverse(tuple(c.tolist()), steps)
    v = np.convolve(workload, w)[:steps]
    moved = np.convolve(v, w)[:steps]
    weights = (steps - np.arange(steps)) / steps
    lags = np.correlate(weights * v, moved, "full")[steps - 1 :]
    return float(weights @ v**2), -2 * np.pad(lags, (0, max(0, len(c) - steps)))[: len(c)]
