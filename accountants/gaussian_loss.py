"""The privacy loss distribution of one Poisson-sampled Gaussian release, on whole arrays.

dp-accounting asks for one cut-off at a time, 10 µs each, and a release has up to 100,000 of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from dp_accounting.pld.pld_pmf import create_pmf_pessimistic_connect_dots_fixed_gap
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

if TYPE_CHECKING:
    from dp_accounting.pld.pld_pmf import PLDPmf

Reals = NDArray[np.float64]


def gaussian_loss(rate: float, noise_multiplier: float, interval: float) -> PrivacyLossDistribution:
    """`from_gaussian_mechanism` of dp-accounting for adding and removing: its grid, its bounds
    and its connected dots, with the cut-offs of all losses computed at once.

    Args:
        rate: q in (0, 1].
        interval: of the grid of losses.
    """
    remove = _connected(AdjacencyType.REMOVE, rate, noise_multiplier, interval)
    if rate == 1.0:
        return PrivacyLossDistribution(remove)
    add = _connected(AdjacencyType.ADD, rate, noise_multiplier, interval)
    return PrivacyLossDistribution(remove, add)


def _connected(direction: AdjacencyType, rate: float, sigma: float, interval: float) -> PLDPmf:
    loss = GaussianPrivacyLoss(sigma, sampling_prob=rate, adjacency_type=direction)
    bounds = loss.connect_dots_bounds()
    lower = math.floor(bounds.epsilon_lower / interval)
    upper = math.ceil(bounds.epsilon_upper / interval)
    deltas = hockey_stick(direction, rate, sigma, np.arange(lower, upper + 1) * interval)
    return create_pmf_pessimistic_connect_dots_fixed_gap(interval, lower, upper, deltas)


def hockey_stick(direction: AdjacencyType, rate: float, sigma: float, epsilons: Reals) -> Reals:
    """δ(ε) of one release in one direction, at every ε.

    removed: δ = q(Φ(x + 1) − Φ(x)) − (e^ε − 1)Φ(x);  added: e^ε·q(Φ(x) − Φ(x − 1)) − (e^ε − 1)Φ(x)

    Φ with deviation σ, x the cut-off. Nothing near 1 cancels, as in P(x) − e^ε·Q(x), which is
    used for ε > 1 alone, where e^ε may be too large to stand by itself.
    """
    x = cut_offs(direction, rate, sigma, epsilons)
    removed = direction is AdjacencyType.REMOVE
    here, there = x / sigma, (x + (1.0 if removed else -1.0)) / sigma
    with np.errstate(over="ignore", invalid="ignore"):
        moved = rate * np.abs(ndtr(there) - ndtr(here)) * (1.0 if removed else np.exp(epsilons))
        small = moved - np.expm1(epsilons) * ndtr(here)
    mixed = (
        np.logaddexp(math.log1p(-rate) + log_ndtr(here), math.log(rate) + log_ndtr(there))
        if rate < 1
        else log_ndtr(there)
    )
    above, below = (mixed, log_ndtr(here)) if removed else (log_ndtr(here), mixed)
    large = np.exp(above) - np.exp(epsilons + below)
    deltas: Reals = np.clip(np.where(epsilons > 1.0, large, small), 0.0, 1.0)
    return deltas


def cut_offs(direction: AdjacencyType, rate: float, sigma: float, epsilons: Reals) -> Reals:
    """The largest x at which the loss is at least ε; ∞ where it is everywhere, −∞ where nowhere.

    Removing a record: ε = ln(1 − q + q·e^ℓ) with ℓ = −(x + ½)/σ², so ℓ = ln(1 + (e^ε − 1)/q).
    Adding one is the same with −ε, reflected.
    """
    sign = 1.0 if direction is AdjacencyType.REMOVE else -1.0
    with np.errstate(divide="ignore", over="ignore"):
        inside = np.maximum(np.expm1(sign * epsilons) / rate, -1.0)
        # e^ε overflows beyond 700, where ln(1 + (e^ε − 1)/q) = ε − ln q to rounding
        loss = np.where(np.isinf(inside), sign * epsilons - math.log(rate), np.log1p(inside))
    return -sign * loss * sigma**2 - sign / 2
