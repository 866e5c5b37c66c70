"""A buffered column is a few exponentials, and none of its kind has a smaller error."""

from __future__ import annotations

import numpy as np
import pytest
from dpigu.dpcore import GrammarError
from dpigu.mechanisms import BufferedToeplitz
from dpigu.mechanisms.release.factorisations import mean_error, optimal_column

STEPS, BANDS = 30, 6


def column(buffers, momentum):
    stage = BufferedToeplitz(bands=BANDS, buffers=buffers, momentum=momentum)
    return stage.coefficients(STEPS)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_the_best_of_its_kind_and_more_buffers_are_no_worse(momentum):
    """Against every ω and θ of a grid, for one buffer; and against b free numbers."""
    one, two, free = (
        mean_error(c, STEPS, momentum)
        for c in (column(1, momentum), column(2, momentum), optimal_column(STEPS, BANDS, momentum))
    )
    grid = np.linspace(0.05, 0.98, 25)
    others = [
        mean_error((1.0, *(omega * theta**k for k in range(BANDS - 1))), STEPS, momentum)
        for omega in grid
        for theta in grid
    ]
    assert one <= min(others) * (1 + 1e-9)
    assert free <= two * (1 + 1e-6) and two <= one * (1 + 1e-6)
    assert one < 1.01 * free < mean_error((1.0,), STEPS, momentum)


@pytest.mark.parametrize("buffers", [1, 2])
def test_its_numbers_follow_a_recurrence_of_as_many_terms_as_buffers(buffers):
    """The Hankel matrix of c_1, c_2, … has rank d."""
    c = np.array(column(buffers, 0.0))[1:]
    hankel = np.array([c[i : i + 3] for i in range(len(c) - 2)])
    singular = np.linalg.svd(hankel, compute_uv=False)
    assert bool((singular[buffers:] < 1e-9 * singular[0]).all())
    assert np.linalg.norm(column(buffers, 0.0)) == pytest.approx(1.0)


def test_fewer_steps_than_bands_leave_the_rest_empty():
    c = BufferedToeplitz(bands=BANDS).coefficients(2)
    assert len(c) == BANDS and c[0] > 0 and not any(c[2:])


@pytest.mark.parametrize(("option", "value"), [("bands", 0), ("buffers", 0), ("momentum", 1.0)])
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(GrammarError, match=rf"buffered-toeplitz\.{option}"):
        BufferedToeplitz(**{option: value})
