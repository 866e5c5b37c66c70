"""Buffered linear Toeplitz factorisations: a column of a few exponentials, without an end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dpigu.dpcore import register
from dpigu.dpcore.noise.correlated import column_of
from dpigu.mechanisms.release.factorisations import Vector, noise_in_weights, workload
from dpigu.mechanisms.validate import require

Buffers = tuple[tuple[float, float], ...]
FAR = 1e3
"""The logarithm of an error that is no number any more, where a search went too far."""


@register("factorisation", "buffered-toeplitz")
@dataclass(frozen=True, kw_only=True)
class BufferedToeplitz:
    """BLT: a Toeplitz encoder whose column is a sum of a few exponentials and has no end.

    c_0 = 1,  c_k = Σ_i ω_i θ_i^{k−1},  ω_i > 0 and θ_i in (0, 1), by L-BFGS for the least
    (1/n) ‖A C⁻¹‖_F² · L²,  L² = Σ_t (Σ_j c_{t−jb})²

    L is how far a record moves all encoded sums that takes every turn of its own, one step in b:
    its turns overlap, so that the steps of a phase are charged as one Gaussian release, which no
    sampling amplifies. Records should therefore take part in every turn, at b · q = 1; where the
    rate is small and sampling amplifies, `banded-toeplitz` or independent noise is better. The
    past is kept in d private vectors and d released ones, where b bands keep b − 1 of each.

    One buffer with ω = θ = λ is DP-λCGD's encoder: its decoder takes λ times the noise of the step
    before away again.

    Args:
        bands: b: a record joins one step in b, at b times the rate; b · q is at most 1.
        count: d, how many buffers are found, at least 1.
        momentum: μ, of the optimizer, in [0, 1).
        given: the (ω, θ) themselves, in place of the best.

    Source: Dvijotham et al. 2024 (arXiv 2404.16706) and McMahan et al. 2024 (arXiv 2408.08868),
    BLT; turns of fixed order: Kalinin and Lampert 2024 (arXiv 2405.13763), Theorem 2; Kalinin et
    al. 2026, DP-λCGD (arXiv 2601.22334).
    Privacy: public numbers, of b, d and the number of steps; the kernel computes the sensitivity
    of what it encodes with them; checked by tests/laws/test_endless_noise.py.
    """

    bands: int = 4
    count: int = 2
    momentum: float = 0.0
    given: Buffers = ()

    def __post_init__(self) -> None:
        require(self.bands >= 1, self, "bands", "at least 1")
        require(self.count >= 1, self, "count", "at least 1")
        require(0 <= self.momentum < 1, self, "momentum", "a number in [0, 1)")
        fall = all(0 < omega < math.inf and 0 < theta < 1 for omega, theta in self.given)
        require(fall, self, "given", "pairs (ω, θ), ω finite and above 0, θ in (0, 1)")

    def buffers(self, steps: int) -> Buffers:
        return self.given or best_buffers(steps, self.bands, self.count, self.momentum)

    def coefficients(self, steps: int) -> tuple[float, ...]:
        return column_of(self.buffers(steps), steps)


def endless_error(buffers: Buffers, steps: int, turns: int, momentum: float = 0.0) -> float:
    """√((1/n) ‖A C⁻¹‖_F²) · L: the root mean squared error in the weights per unit of σC."""
    c = np.array(column_of(buffers, steps))
    error, _ = noise_in_weights(c, workload(steps, momentum))
    return math.sqrt(error * _overlap(c, turns)[0])


@lru_cache(maxsize=64)
def best_buffers(steps: int, turns: int, count: int, momentum: float = 0.0) -> Buffers:
    """The (ω, θ) with the least error found.

    From θ_i = 1 − 4^−i, ω_i = θ_i/(2d); where the search ends is a minimum near that start.
    """
    from scipy.optimize import minimize  # slow to load
    from scipy.special import expit, logit

    a = workload(steps, momentum)

    def objective(x: Vector) -> tuple[float, Vector]:
        theta_d, omega_d = expit(x[:count]), np.exp(x[count:])
        error, by_omega_d, by_theta_d = _log_error(omega_d, theta_d, turns, a)
        return error, np.concatenate([by_theta_d * theta_d * (1 - theta_d), by_omega_d * omega_d])

    theta_d = 1 - 0.25 ** np.arange(1, count + 1)
    start = np.concatenate([logit(theta_d), np.log(theta_d / (2 * count))])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-12})
    pairs = zip(np.exp(found.x[count:]).tolist(), expit(found.x[:count]).tolist(), strict=True)
    return tuple(pairs)


def _log_error(
    omega_d: Vector, theta_d: Vector, turns: int, workload: Vector
) -> tuple[float, Vector, Vector]:
    """The logarithm of the mean squared error, and its slopes in ω and in θ."""
    powers = np.arange(len(workload) - 1)[:, None]
    fall_kd = theta_d**powers
    c = np.concatenate([[1.0], fall_kd @ omega_d])
    with np.errstate(over="ignore", invalid="ignore"):
        error, by_c = noise_in_weights(c, workload)
    if not math.isfinite(error):
        return FAR, np.zeros_like(omega_d), np.zeros_like(theta_d)
    square, steep = _overlap(c, turns)
    slope = (by_c / error + steep / square)[1:]
    return math.log(error * square), slope @ fall_kd, slope @ (fall_kd * powers * omega_d / theta_d)


def _overlap(c: Vector, turns: int) -> tuple[float, Vector]:
    """L² of a column of numbers that are not negative, and its slope in c."""
    met, slope = np.zeros_like(c), np.zeros_like(c)
    shifts = range(0, len(c), turns)
    for shift in shifts:
        met[shift:] += c[: len(c) - shift]
    for shift in shifts:
        slope[: len(c) - shift] += 2 * met[shift:]
    return float(met @ met), slope
