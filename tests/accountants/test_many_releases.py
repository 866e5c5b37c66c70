"""Noise that changes every step: a thousand different releases, held against exact values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dpigu.accountants import get_accountant, many_releases, pld
from dpigu.accountants.events import Term
from dpigu.accountants.pld import PLD
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

DELTAS = (1e-3, 1e-5, 1e-9, 1e-12)


def exact_epsilon(z: float, delta: float) -> float:
    """Of one Gaussian: δ = Φ(1/2z − εz) − e^ε·Φ(−1/2z − εz) (Balle and Wang 2018, Theorem 8)."""

    def gap(epsilon: float) -> float:
        below = math.exp(epsilon + log_ndtr(-0.5 / z - epsilon * z))
        return float(ndtr(0.5 / z - epsilon * z)) - below - delta

    return float(brentq(gap, 0.0, 200.0, xtol=1e-12))


def gaussians(count: int) -> tuple[Term, ...]:
    """Different unsampled ones, some of them several times; together they are one Gaussian."""
    return tuple(Term(1.0, 20.0 + 40.0 * k / count, 1 + k % 3) for k in range(count))


def together(terms: tuple[Term, ...]) -> float:
    return math.fsum(t.count / t.noise_multiplier**2 for t in terms) ** -0.5


@pytest.mark.parametrize("delta", DELTAS)
def test_a_thousand_different_gaussians_are_one(delta: float) -> None:
    terms = gaussians(1000)
    exact = exact_epsilon(together(terms), delta)
    found = PLD().epsilon(terms, delta).value
    assert found is not None and exact <= found
    assert delta == 1e-12 or found <= 1.003 * exact  # there δ is charged for the FFT's rounding


def test_coarse_cells_for_many_releases_cost_a_little_and_never_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terms = tuple(Term(0.02, 2.0 + 0.02 * k, 1 + k % 4) for k in range(pld.MANY + 1))
    coarse = PLD().epsilon(terms, 1e-5).value
    monkeypatch.setattr(pld, "CELLS_FOR_MANY", 2 * pld.CELLS_FOR_MANY)
    pld._resolved.cache_clear(), pld._composed.cache_clear()
    fine = PLD().epsilon(terms, 1e-5).value
    pld._resolved.cache_clear(), pld._composed.cache_clear()
    assert coarse is not None and fine is not None
    assert fine <= coarse <= 1.003 * fine


def test_mass_that_is_cut_off_goes_up_and_one_that_is_lost_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With wide ends ε must rise; where they are dropped it falls too low."""
    terms, delta = gaussians(70), 1e-5
    exact = exact_epsilon(together(terms), delta)

    def epsilon() -> float:
        pld._resolved.cache_clear(), pld._composed.cache_clear()
        return PLD().epsilon(terms, delta).value or math.inf

    monkeypatch.setattr(many_releases, "TAIL", 2e-7)
    assert epsilon() > exact

    def lost(a: many_releases.Losses, b: many_releases.Losses) -> many_releases.Losses:
        masses = np.convolve(a.masses, b.masses)
        start, end = many_releases._prefix(masses), many_releases._prefix(masses[::-1])
        return many_releases.Losses(
            a.lowest + b.lowest + start, masses[start : len(masses) - end], 0.0
        )

    monkeypatch.setattr(many_releases, "TAIL", 2e-6)
    monkeypatch.setattr(many_releases, "_both", lost)
    assert epsilon() < exact
    monkeypatch.undo()
    pld._resolved.cache_clear(), pld._composed.cache_clear()


def test_prv_leaves_many_releases_to_pld_and_says_so() -> None:
    terms = gaussians(pld.MANY + 1)
    found = get_accountant("prv").epsilon(terms, 1e-5)
    assert found.value == PLD().epsilon(terms, 1e-5).value
    assert found.accountant == "pld" and "different releases" in found.note
