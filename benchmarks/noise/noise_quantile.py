"""How far the normal quantile that the noise is drawn from may be off.

    python -m benchmarks.noise.noise_quantile [--points 2000]

The quantile Φ⁻¹ is `scipy.special.ndtri`, Cephes' rational functions in three ranges. For points
of each range, in units of 2⁻⁵³ of 1 + |z|: how far the rational function in exact arithmetic is
from the quantile; how far float64 may be from the rational function, by an error bound carried
through every operation; and how far scipy's value is in fact from the quantile.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import mpmath
import numpy as np
from scipy.special import ndtri

UNIT = 2.0**-53
PRECISE = 160
LEAST = 2.0**-65
"""The smallest tail probability that a word of 64 bits gives."""
LOG = 4
"""Roundings that a logarithm of a mathematical library counts for; theirs are below 1 ulp."""

P0 = "-59.9633501014107895267 98.0010754185999661536 -56.6762857469070293439 \
13.9312609387279679503 -1.23916583867381258016"
Q0 = "1 1.95448858338141759834 4.67627912898881538453 86.3602421390890590575 \
-225.462687854119370527 200.260212380060660359 -82.0372256168333339912 15.9056225126211695515 \
-1.18331621121330003142"
P1 = "4.05544892305962419923 31.5251094599893866154 57.1628192246421288162 \
44.0805073893200834700 14.6849561928858024014 2.18663306850790267539 -.140256079171354495875 \
-.0350424626827848203418 -.000857456785154685413611"
Q1 = "1 15.7799883256466749731 45.3907635128879210584 41.3172038254672030440 \
15.0425385692907503408 2.50464946208309415979 -.142182922854787788574 -.0380806407691578277194 \
-.000933259480895457427372"
P2 = "3.23774891776946035970 6.91522889068984211695 3.93881025292474443415 \
1.33303460815807542389 .201485389549179081538 .0123716634817820021358 .000301581553508235416007 \
2.65806974686737550832e-6 6.23974539184983293730e-9"
Q2 = "1 6.02427039364742014255 3.67983563856160859403 1.37702099489081330271 \
.216236993594496635890 .0134204006088543189037 .000328014464682127739104 \
2.89247864745380683936e-6 6.79019408009981274425e-9"
S2PI = "2.50662827463100050242"
CENTRAL, FAR = math.exp(-2), math.exp(-32)


@dataclass(frozen=True)
class Near:
    """A float64 value and how far it may be from the exact one."""

    value: float
    error: float = 0.0

    def _rounded(self, value: float, error: float, units: float = 1.0) -> Near:
        return Near(value, error + units * UNIT * abs(value))

    def __add__(self, other: Near) -> Near:
        return self._rounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Near) -> Near:
        return self._rounded(self.value - other.value, self.error + other.error)

    def __mul__(self, other: Near) -> Near:
        moved = abs(self.value) * other.error + (abs(other.value) + other.error) * self.error
        return self._rounded(self.value * other.value, moved)

    def __truediv__(self, other: Near) -> Near:
        value = self.value / other.value
        moved = (self.error + abs(value) * other.error) / (abs(other.value) - other.error)
        return self._rounded(value, moved)

    def sqrt(self) -> Near:
        moved = self.error / math.sqrt(self.value - self.error)
        return self._rounded(math.sqrt(self.value), moved)

    def log(self) -> Near:
        return self._rounded(math.log(self.value), self.error / (self.value - self.error), LOG)


def near(text: str) -> Near:
    """A decimal constant as float64 holds it."""
    return Near(float(text), UNIT * abs(float(text)))


def rational(p: Any, number: Callable[[str], Any], log: Callable, sqrt: Callable) -> Any:
    """−Φ⁻¹(p) by Cephes' formulas, in any arithmetic, for p up to ½."""

    def poly(x: Any, text: str) -> Any:
        return reduce(
            lambda total, c: total * x + number(c), text.split()[1:], number(text.split()[0])
        )

    level = getattr(p, "value", p)
    if level > CENTRAL:
        y = number("0.5") - p
        y2 = y * y
        return (y + y * (y2 * poly(y2, P0) / poly(y2, Q0))) * number(S2PI)
    x = sqrt(number("-2") * log(p))
    z = number("1") / x
    over, under = (P1, Q1) if level > FAR else (P2, Q2)
    return (x - log(x) / x) - z * poly(z, over) / poly(z, under)


def quantile(p: float) -> mpmath.mpf:
    """−Φ⁻¹(p), by Newton's method from scipy's value."""
    z, p = mpmath.mpf(-float(ndtri(p))), mpmath.mpf(p)
    for _ in range(3):
        density = mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)
        z += (mpmath.erfc(z / mpmath.sqrt(2)) / 2 - p) / density
    return z


@dataclass
class ErrorCounts:
    """The largest of each error over a range, in units of 2⁻⁵³ of 1 + |z|."""

    formula: float = 0.0
    rounding: float = 0.0
    measured: float = 0.0
    outside: int = 0

    @property
    def certified(self) -> float:
        """Formula and rounding together."""
        return self.formula + self.rounding


def errors(points: Sequence[float]) -> ErrorCounts:
    """The errors at tail probabilities of one range."""
    found = ErrorCounts()
    with mpmath.workprec(PRECISE):
        for p in points:
            exact, scipys = quantile(p), mpmath.mpf(-float(ndtri(p)))
            formula = rational(mpmath.mpf(p), mpmath.mpf, mpmath.log, mpmath.sqrt)
            bound = rational(Near(p), near, Near.log, Near.sqrt).error
            unit = float(UNIT * (1 + exact))
            found.formula = max(found.formula, float(abs(formula - exact)) / unit)
            found.rounding = max(found.rounding, bound / unit)
            found.measured = max(found.measured, float(abs(scipys - exact)) / unit)
            found.outside += float(abs(scipys - formula)) > bound
    return found


def ranges(points: int) -> dict[str, list[float]]:
    """Chebyshev points of each range, in the variable of its rational function."""
    at = (1 - np.cos(np.pi * (np.arange(points) + 0.5) / points)) / 2
    last = math.sqrt(-2 * math.log(LEAST))
    return {
        "0.135 to 0.5": (CENTRAL + (0.5 - CENTRAL) * at).tolist(),
        "1e-14 to 0.135": np.exp(-((2 + 6 * at) ** 2) / 2).tolist(),
        "2^-65 to 1e-14": np.exp(-((8 + (last - 8) * at) ** 2) / 2).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=2000)
    given = parser.parse_args()
    for name, points in ranges(given.points).items():
        e = errors(points)
        print(
            f"{name:15} formula {e.formula:.2f}  rounding at most {e.rounding:.1f}  "
            f"measured {e.measured:.2f}  outside its bound {e.outside} of {len(points)}"
        )


if __name__ == "__main__":
    main()
