"""The orders of RDP, and from divergences at all of them to ε and δ.

As dp-accounting does it (tests/accountants/test_renyi.py), whose import takes longer than the
answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

ORDERS: Reals = np.array(
    [k / 10 for k in range(11, 110)] + [*map(float, range(11, 64)), 128.0, 256.0, 512.0, 1024.0]
)
"""dp-accounting's default orders."""


def epsilon_at(divergence: Reals, delta: float) -> float:
    """The least ε over the orders at δ > 0: r + ln(1 − 1/α) − ln(δα)/(α − 1), at least 0.

    It is 0 where r(α) bounds the total variation by δ: 1 − e^(−r) < δ².

    Source: Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Proposition 12; Bretagnolle and
    Huber 1979 for the second.
    """
    divergence = np.maximum(divergence, 0.0)  # rounding may bring it below
    if bool((delta**2 + np.expm1(-divergence) > 0).any()):
        return 0.0
    epsilons = divergence + np.log1p(-1 / ORDERS) - np.log(delta * ORDERS) / (ORDERS - 1)
    return max(0.0, float(epsilons.min()))


def delta_at(divergence: Reals, epsilon: float) -> float:
    """The least δ over the orders at ε ≥ 0; the inverse of `epsilon_at`."""
    divergence = np.maximum(divergence, 0.0)
    with np.errstate(divide="ignore"):
        by_variation = 0.5 * np.log(-np.expm1(-divergence))
    by_order = (ORDERS - 1) * (divergence - epsilon + np.log1p(-1 / ORDERS)) - np.log(ORDERS)
    return min(1.0, float(np.exp(np.minimum(by_variation, by_order).min())))
