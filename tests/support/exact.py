"""Exact comparisons: squares of norms without rounding, and values bit for bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from dpigu.dpcore import Release
from torch import Tensor


def exact_square(v: Tensor) -> Fraction:
    """‖v‖² of a finite vector, without any rounding."""
    mantissas, exponents = np.frexp(v.to(torch.float64).numpy().reshape(-1))
    assert np.isfinite(mantissas).all()
    whole = (mantissas * 2.0**53).astype(np.int64)
    total, base = 0, 2 * (int(exponents.min(initial=0)) - 53)
    for exponent in np.unique(exponents[whole != 0]):
        part = whole[exponents == exponent].astype(object)
        total += int((part * part).sum()) << int(2 * (int(exponent) - 53) - base)
    return Fraction(total) * Fraction(2) ** base


def exact_distance_square(a: Tensor, b: Tensor) -> Fraction:
    """‖a − b‖², without any rounding."""
    pairs = zip(a.double().tolist(), b.double().tolist(), strict=True)
    return sum(((Fraction(x) - Fraction(y)) ** 2 for x, y in pairs), Fraction(0))


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit equal, NaN with NaN."""
    return (
        a.dtype == b.dtype
        and torch.equal(a.isnan(), b.isnan())
        and bool((a == b)[~a.isnan()].all())
    )


def same_release(a: Release, b: Release) -> bool:
    """Every released value of two steps, bit for bit."""
    pairs = [(a.gradient, b.gradient), (a.noised, b.noised)]
    pairs += [(a.queries[name], b.queries[name]) for name in a.queries]
    values = all(same(x.value, y.value) and same(x.variance, y.variance) for x, y in pairs)
    return values and torch.equal(a.support_D, b.support_D)
