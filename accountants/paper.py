"""The paper's closed form for σ, for comparison only."""

from __future__ import annotations

import math

from dpigu.accountants.base import checked_delta, checked_epsilon
from dpigu.dpcore.errors import AccountingError


def paper_sigma(rate: float, steps: int, epsilon: float, delta: float) -> float:
    """Theorem 9 of AdaDPIGU: σ = 2q·√(T·ln(1/δ))/ε. For comparison only, never for training.

    The theorem states σ ≥ this as sufficient, without the constants and the range (ε small
    against q²T, small q) of the asymptotic result that it repeats. At q = 1000/60000,
    T = 2400, δ = 1e-5 it asks for more noise than PLD at ε = 1 (5.54 against 3.16), 2 (2.77
    against 1.80) and 4 (1.39 against 1.13), and for less at ε = 8 (0.69 against 0.81), where
    it spends 12: a claim made with it would be false.

    Args:
        rate: q, the sampling rate, in (0, 1].
        steps: T ≥ 0.
        epsilon: target ε > 0.
        delta: target δ in (0, 1).

    Source: the AdaDPIGU paper, Theorem 9, after Abadi et al. 2016 (arXiv 1607.00133), Theorem 1.
    """
    epsilon, delta = checked_epsilon(epsilon), checked_delta(delta)
    if not (0 < rate <= 1 and steps >= 0 and epsilon > 0):
        raise AccountingError(
            "Theorem 9 has no value here",
            where="paper_sigma",
            got=(rate, steps, epsilon),
            expected="0 < rate ≤ 1, steps ≥ 0, epsilon > 0",
            remedy="Give the numbers of a training run.",
        )
    return 2 * rate * math.sqrt(steps * math.log(1 / delta)) / epsilon
