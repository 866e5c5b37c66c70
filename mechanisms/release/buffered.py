"""Buffered linear Toeplitz factorisations: a column that falls as a few exponentials do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dpigu.dpcore import register
from dpigu.mechanisms.release.factorisations import Vector, squared_error, workload
from dpigu.mechanisms.validate import require


@register("factorisation", "buffered-toeplitz")
@dataclass(frozen=True, kw_only=True)
class BufferedToeplitz:
    """A banded Toeplitz encoder whose column is a sum of a few exponentials, cut at b bands.

    c_0 = 1,  c_k = Σ_i ω_i θ_i^{k−1} for 0 < k < b,  ω_i > 0 and θ_i in (0, 1) by L-BFGS

    Its error and its cost are those of `banded-toeplitz`, of which it is a part: 2d numbers in
    place of b. One buffer with ω = θ = λ is the encoder whose decoder takes λ times the noise of
    the step before away again, cut at b bands. Without a cut a record would be in all later sums:
    turns overlap, and sampling is amplified by another argument than this package's. The past
    sums are kept as they are, so buffers save no memory here.

    Args:
        bands: b, at least 1; b · q is at most 1.
        buffers: d, at least 1.
        momentum: μ, of the optimizer, in [0, 1).

    Source: Dvijotham et al. 2024 (arXiv 2404.16706) and McMahan et al. 2024 (arXiv 2408.08868),
    BLT; Kalinin et al. 2026, DP-λCGD (arXiv 2601.22334), for λ.
    Privacy: public numbers, of b, d and the number of steps; the kernel computes the sensitivity
    of what it encodes with them; checked by tests/laws/test_correlated_noise.py.
    """

    bands: int = 8
    buffers: int = 2
    momentum: float = 0.0

    def __post_init__(self) -> None:
        require(self.bands >= 1, self, "bands", "at least 1")
        require(self.buffers >= 1, self, "buffers", "at least 1")
        require(0 <= self.momentum < 1, self, "momentum", "a number in [0, 1)")

    def coefficients(self, steps: int) -> tuple[float, ...]:
        return buffered_column(steps, self.bands, self.buffers, self.momentum)


@lru_cache(maxsize=64)
def buffered_column(
    steps: int, bands: int, buffers: int, momentum: float = 0.0
) -> tuple[float, ...]:
    """The column of length 1, of b numbers that d buffers give, with the least mean error found.

    From θ_i = 1 − 4^−i, ω_i = θ_i/(2d); where the search ends is a minimum near that start.
    """
    from scipy.optimize import minimize  # slow to load
    from scipy.special import expit, logit

    used = min(bands, steps)
    powers, a = np.arange(used - 1), workload(steps, momentum)

    def parts(x: Vector) -> tuple[Vector, Vector, Vector]:
        theta_1d, omega_1d = expit(x[None, :buffers]), np.exp(x[None, buffers:])
        return theta_1d, omega_1d, theta_1d ** powers[:, None]

    def column(x: Vector) -> Vector:
        _, omega_1d, power_kd = parts(x)
        return np.concatenate([[1.0], (omega_1d * power_kd).sum(1)])

    def objective(x: Vector) -> tuple[float, Vector]:
        theta_1d, omega_1d, power_kd = parts(x)
        error, slope = squared_error(column(x), a)
        by_log_omega = slope[1:] @ (omega_1d * power_kd)
        by_logit = slope[1:] @ (omega_1d * powers[:, None] * power_kd * (1 - theta_1d))
        return math.log(error), np.concatenate([by_logit, by_log_omega]) / error

    theta = 1 - 0.25 ** np.arange(1, buffers + 1)
    start = np.concatenate([logit(theta), np.log(theta / (2 * buffers))])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-14})
    best = np.concatenate([column(found.x), np.zeros(bands - used)])
    return tuple((best / np.linalg.norm(best)).tolist())
