"""Rényi divergences of all orders at once, held against dp-accounting's of one order each."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from dpigu.accountants.renyi_orders import divergences
from dpigu.accountants.renyi_orders.divergences import Reals, gaussian_divergences

pytestmark = pytest.mark.numerical

RELEASES = [
    *((1e-6, 0.4), (1e-3, 0.1), (1e-3, 2.5), (1 / 60, 0.4), (1 / 60, 2.5), (0.2, 1.0), (0.5, 0.55)),
    *((0.5, 20.0), (0.5, 300.0), (0.9, 1.0), (0.999, 0.1), (1 - 1e-12, 31.6), (1.0, 0.7)),
]


def off_the_library(rate: float, z: float) -> Reals:
    """The difference at every order, in units of roundoff of 1 + r(α), where both converge."""
    accountant = RdpAccountant()
    accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(z)))
    ours = gaussian_divergences(rate, z, accountant.orders)
    assert (np.isfinite(ours) == np.isfinite(accountant.rdp)).all()
    kept = np.isfinite(ours)
    off: Reals = np.abs(ours[kept] - accountant.rdp[kept]) / (1 + ours[kept]) * 2.0**52
    return off


@pytest.mark.parametrize(("rate", "z"), RELEASES)
def test_every_order_is_that_of_dp_accounting(rate: float, z: float) -> None:
    """Both add some hundred logarithms, each with a relative error of a few roundoffs, and divide
    by α − 1 ≥ 0.1. An order that one leaves out, the other leaves out."""
    assert off_the_library(rate, z).max() < 1000


def test_a_term_too_few_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergences, "NEGLIGIBLE", 20.0)
    assert off_the_library(1 / 60, 2.5).max() > 1000


def test_where_the_arithmetic_ends_an_order_says_nothing() -> None:
    assert (gaussian_divergences(0.5, 1e-200, RdpAccountant().orders) == np.inf).all()
