"""The privacy loss distribution of one Poisson-sampled Gaussian release, on whole arrays.

dp-accounting asks for one cut-off at a time, 10 µs each, and a release has up to 100,000 of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from dp_accounting.pld.pld_pmf import DensePLDPmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType
from dpigu.accountants.many_releases import Losses, composed
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

Reals = NDArray[np.float64]

REACH = -float(ndtri(0.5 * math.exp(-50.0)))
"""Deviations of the noise beyond which a loss counts as infinite, or as the least: as there."""


def gaussian_loss(rate: float, noise_multiplier: float, interval: float) -> PrivacyLossDistribution:
    """`from_gaussian_mechanism` of dp-accounting for adding and removing: its grid, its bounds
    and its connected dots, with the cut-offs of all losses computed at once.

    Args:
        rate: q in (0, 1].
        interval: of the grid of losses.
    """
    return composed_losses([(rate, noise_multiplier, 1)], interval)


def composed_losses(
    releases: Sequence[tuple[float, float, int]], interval: float
) -> PrivacyLossDistribution:
    """The same for many releases after each other: rate, noise multiplier and how often, of each.

    Fast where they are all different; for few, repeated often, dp-accounting's `self_compose` is.
    """
    found = []
    sampled = any(rate < 1.0 for rate, _, _ in releases)
    for direction in (AdjacencyType.REMOVE, AdjacencyType.ADD)[: 1 + sampled]:
        ones = [(_connected(direction, q, z, interval), count) for q, z, count in releases]
        lowest, masses, infinite = composed(ones)
        found.append(DensePLDPmf(interval, lowest, masses, infinite, True))
    return PrivacyLossDistribution(*found)


def _connected(direction: AdjacencyType, rate: float, sigma: float, h: float) -> Losses:
    """The distribution on multiples of h whose δ(ε) is the exact one there, and linear in e^ε
    between: never below it.

    p_k = ((δ_(k+1) − δ_k) − e^h (δ_k − δ_(k−1)))/(e^h − 1), with δ = 1 − e^ε below the first and
    δ_n beyond the last, which is the mass at ∞.

    Source: Doroshenko et al. 2022 (arXiv 2207.04380), Algorithm 1.
    """
    most, least = loss_at(-REACH * sigma - 1, rate, sigma), loss_at(REACH * sigma, rate, sigma)
    if direction is AdjacencyType.ADD:
        most, least = -least, -most
    lower = math.floor(least / h)
    upper = max(math.ceil(most / h), lower + 1)
    epsilons = np.asarray(np.arange(lower, upper + 1) * h, dtype=np.float64)
    deltas = hockey_stick(direction, rate, sigma, epsilons)
    deltas = np.minimum.accumulate(deltas)  # rounding may bring one above the one before
    steps, up = np.diff(deltas), math.expm1(h)
    masses = np.empty_like(deltas)
    masses[0] = 1.0 - deltas[0] + steps[0] / up
    masses[1:-1] = (steps[1:] - steps[:-1] * math.exp(h)) / up
    masses[-1] = steps[-1] / math.expm1(-h)
    return Losses(lower, np.maximum(masses, 0.0), float(deltas[-1]))


def loss_at(x: float, rate: float, sigma: float) -> float:
    """The loss where a record is removed and the release is x: ln(1 − q + q·e^ℓ), ℓ = −(x + ½)/σ².

    Where one is added it is −loss(−x).
    """
    loss = -(x + 0.5) / sigma**2
    if loss > 500.0:  # e^ℓ may overflow, and 1 − q is nothing beside it
        return loss + math.log(rate)
    return math.log1p(rate * math.expm1(loss)) if rate < 1.0 else loss


def hockey_stick(direction: AdjacencyType, rate: float, sigma: float, epsilons: Reals) -> Reals:
    """δ(ε) of one release in one direction, at every ε.

    removed: δ = q(Φ(x + 1) − Φ(x)) − (e^ε − 1)Φ(x);  added: e^ε·q(Φ(x) − Φ(x − 1)) − (e^ε − 1)Φ(x)

    Φ with deviation σ, x the cut-off. Nothing near 1 cancels, as in P(x) − e^ε·Q(x), which is
    used for ε > 1 alone, where e^ε may be too large to stand by itself.
    """
    x = cut_offs(direction, rate, sigma, epsilons)
    shift = 1.0 if direction is AdjacencyType.REMOVE else -1.0
    here, there = x / sigma, (x + shift) / sigma
    large = epsilons > 1.0
    deltas = np.empty_like(epsilons)
    for which, part in ((~large, _moved), (large, _apart)):
        deltas[which] = part(direction, rate, here[which], there[which], epsilons[which])
    return np.clip(deltas, 0.0, 1.0)


def _moved(
    direction: AdjacencyType, rate: float, here: Reals, there: Reals, epsilons: Reals
) -> Reals:
    plain = ndtr(here)
    moved = rate * np.abs(ndtr(there) - plain)
    if direction is AdjacencyType.ADD:
        moved *= np.exp(epsilons)
    found: Reals = moved - np.expm1(epsilons) * plain
    return found


def _apart(
    direction: AdjacencyType, rate: float, here: Reals, there: Reals, epsilons: Reals
) -> Reals:
    plain, mixed = log_ndtr(here), log_ndtr(there)
    if rate < 1:
        mixed = np.logaddexp(math.log1p(-rate) + plain, math.log(rate) + mixed)
    above, below = (mixed, plain) if direction is AdjacencyType.REMOVE else (plain, mixed)
    found: Reals = np.exp(above) - np.exp(epsilons + below)
    return found


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
