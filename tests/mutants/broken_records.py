"""Broken statistics, views, subspaces and decisions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.mechanisms.statistics.selective_update import LossChange
from dpigu.mechanisms.statistics.zeroth_order import ZerothOrder
from dpigu.mechanisms.views import ShiftFlip

from tests.mutants.broken_rows import escaped
from tests.mutants.table import broken


@broken("statistic", by="statistic-fits-its-space", says="not a floating vector of the length")
@dataclass(frozen=True, kw_only=True)
class TwoForOne(LossChange):
    """Gives two numbers where it declares one. Privacy: none."""

    def row_of(self, state, record):
        return record.loss(None).expand(2)


@broken("statistic", by="record-is-local", says="changes with the others")
@dataclass(frozen=True, kw_only=True)
class SharedDraw(LossChange):
    """Looks at the whole batch behind vmap's back. Privacy: none."""

    def row_of(self, state, record):
        return (record.x - escaped(record.x).mean()).mean()[None]


@broken("statistic", by="writes-nothing", says="that sees a private record writes")
@dataclass(frozen=True, kw_only=True)
class Hoards(LossChange):
    """Keeps what it saw. Privacy: none."""

    def row_of(self, state, record):
        SEEN.append(float(len(SEEN)))
        return super().row_of(state, record)


SEEN: list[float] = []


@broken("statistic", by="gradient-fits", says="not a finite vector of length|raises")
@dataclass(frozen=True, kw_only=True)
class SlopeForAll(ZerothOrder):
    """Gives the slope where every weight asked for its own. Privacy: none."""

    def gradient(self, state, release):
        return release.gradient


@broken("statistic", by="gradient-fits", says="not that of the noise")
@dataclass(frozen=True, kw_only=True)
class SlopeWithoutItsSquare(ZerothOrder):
    """Scales the variance like the value. Privacy: none."""

    def gradient(self, state, release):
        right = super().gradient(state, release)
        u_D = right.value / release.gradient.value
        return right.derive(right.value, u_D.abs() * release.gradient.variance)


@broken("views", by="views-fit", says="another shape or dtype")
@dataclass(frozen=True, kw_only=True)
class OneView(ShiftFlip):
    """Gives one view where it declares four. Privacy: none."""

    def views(self, x):
        return x[None]


@broken("subspace", by="basis-is-orthonormal", says="not orthonormal")
@dataclass(frozen=True, kw_only=True)
class Doubled:
    """A direction twice as long as it should be. Privacy: none."""

    def basis(self, state):
        return state["basis_DK"]

    def init(self, context, reads):
        basis_DK = torch.zeros(context.space.size, 1, dtype=torch.float64)
        basis_DK[0] = 2
        return {"basis_DK": basis_DK}

    def update(self, state, release, reads):
        return state


@broken("decision", by="decision-decides", says="the same to every released value")
@dataclass(frozen=True, kw_only=True)
class Yes:
    """Keeps every update. Privacy: reads nothing."""

    def accepts(self, released):
        return True


@broken("decision", by="decision-decides", says="no bool")
@dataclass(frozen=True, kw_only=True)
class Maybe:
    """Answers with a number. Privacy: reads a released value."""

    def accepts(self, released):
        return released.value[0]
