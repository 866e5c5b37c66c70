"""The orders and conversions of RDP, against dp-accounting's."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting.rdp import compute_epsilon
from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS, compute_delta
from dpigu.accountants.renyi_orders.divergences import gaussian_divergences
from dpigu.accountants.renyi_orders.orders import ORDERS, delta_at, epsilon_at

RELEASES = [(0.17, 1.1), (0.01, 0.7), (1e-4, 0.5), (0.9, 8.0), (1.0, 2.0)]


def test_the_orders_are_the_librarys() -> None:
    assert ORDERS.tolist() == [float(order) for order in DEFAULT_RDP_ORDERS]


@pytest.mark.parametrize(("rate", "z"), RELEASES)
def test_what_follows_from_divergences_is_the_librarys(rate: float, z: float) -> None:
    ours = 20 * gaussian_divergences(rate, z, ORDERS)
    for delta in (1e-3, 1e-8):
        expected = compute_epsilon(ORDERS, ours, delta)[0]
        assert epsilon_at(ours, delta) == pytest.approx(expected, rel=1e-12)
    for epsilon in (0.0, 0.5, 5.0):
        expected = compute_delta(ORDERS, ours, epsilon)[0]
        assert delta_at(ours, epsilon) == pytest.approx(expected, rel=1e-12)


def test_no_divergence_is_no_loss() -> None:
    nothing = np.zeros_like(ORDERS)
    assert epsilon_at(nothing, 1e-6) == 0.0 and delta_at(nothing, 0.0) == 0.0
    assert epsilon_at(nothing - 1e-17, 1e-6) == 0.0 and delta_at(nothing - 1e-17, 0.0) == 0.0
