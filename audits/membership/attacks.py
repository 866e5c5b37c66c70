"""Membership inference: what each record's margin says of whether it trained.

Every attack reads margins φ = z_y − log Σ_{k≠y} e^{z_k} alone: φ_N of the audited model, and φ_SN
of S shadow models with in_SN, who trained which. The label's probability is σ(φ), its loss
log(1 + e^−φ). No attack reads who trained the audited model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from dpigu.audits.statistics import Reals
from dpigu.dpcore import DataError
from numpy.typing import NDArray
from scipy.special import expit

Bools: TypeAlias = NDArray[np.bool_]
Attack: TypeAlias = Callable[[Reals, Reals, Bools], Reals]

OWN_VARIANCE_FROM = 64
"""With fewer shadow models than these, all records share one variance (as LiRA advises)."""
LEAST_VARIANCE = 1e-12  # margins that all shadows give alike say no more than this precisely


def loss(phi_N: Reals, phi_SN: Reals, in_SN: Bools) -> Reals:
    """−loss = −log(1 + e^−φ), shape (N,); needs no shadow model.

    Source: Yeom, Giacomelli, Fredrikson and Jha 2018, with every threshold in turn.
    """
    return -np.logaddexp(0.0, -phi_N)


def lira_online(phi_N: Reals, phi_SN: Reals, in_SN: Bools) -> Reals:
    """log N(φ; μ_in, σ²_in) − log N(φ; μ_out, σ²_out) of each record, shape (N,).

    μ is the median of a record's margins on a side, σ their deviation; with few shadow models one
    σ serves both sides and all records, which then moves no rank.

    Errors: DataError where a record has no shadow model on a side.
    Source: Carlini et al. 2022, "Membership Inference Attacks From First Principles", and the
    authors' code, which takes medians.
    """
    sides = [_fitted(phi_SN, of_SN) for of_SN in (in_SN, ~in_SN)]
    if len(phi_SN) < OWN_VARIANCE_FROM:
        shared_N = (sides[0][1] + sides[1][1]) / 2
        sides = [(centre_N, shared_N) for centre_N, _ in sides]
    seen_N, unseen_N = (
        -0.5 * ((phi_N - centre_N) ** 2 / variance_N + np.log(variance_N))
        for centre_N, variance_N in sides
    )
    return np.asarray(seen_N - unseen_N)


def lira_offline(phi_N: Reals, phi_SN: Reals, in_SN: Bools) -> Reals:
    """(φ − μ_out)/σ_out of each record, shape (N,): by the shadows that leave it out alone.

    It ranks as P[N(μ_out, σ²_out) < φ] does, and does not saturate. The authors' code gives the
    density, −½ of this squared − log σ_out, which accuses margins that are far too low as well.

    Errors: DataError where every shadow model trained a record.
    Source: Carlini et al. 2022, the offline variant.
    """
    centre_N, variance_N = _fitted(phi_SN, ~in_SN)
    return np.asarray((phi_N - centre_N) / np.sqrt(variance_N))


def rmia(phi_N: Reals, phi_SN: Reals, in_SN: Bools, a: float = 0.3, gamma: float = 1.0) -> Reals:
    """The share of all records z with p(x)/P(x) > γ·p(z)/P(z), for each x; shape (N,), offline.

    P = ½((1 + a)·P_out + 1 − a): P_out is the mean probability by the shadows that leave the
    record out, and a·P_out + 1 − a stands for those that trained it. Every record serves as z, as
    the attacker does not know who is in; at γ = 1 a score is then the rank of p(x)/P(x).

    Errors: DataError where every shadow model trained a record.
    Source: Zarifzadeh, Liu and Shokri 2024, "Low-Cost High-Power Membership Inference Attacks".
    """
    out_N = _means(expit(phi_SN), ~in_SN)
    ratio_N = expit(phi_N) / (0.5 * ((1 + a) * out_N + 1 - a))
    below_N = np.searchsorted(np.sort(gamma * ratio_N), ratio_N, side="left")
    return np.asarray(below_N / len(ratio_N), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Named:
    """An attack as reports name it, and what it asks, in a few words."""

    title: str
    asks: str
    score: Attack
    shadows: bool = True


ATTACKS: Mapping[str, Named] = {
    "loss": Named(
        title="Loss",
        asks="Is the model surer of this record than of others? It needs nothing but the model.",
        score=loss,
        shadows=False,
    ),
    "lira-offline": Named(
        title="LiRA, offline",
        asks="Is it surer than models are that never saw the record?",
        score=lira_offline,
    ),
    "lira-online": Named(
        title="LiRA, online",
        asks="Is it more like models that saw the record, or like those that did not?",
        score=lira_online,
    ),
    "rmia": Named(
        title="RMIA",
        asks="Has it gained more on this record than on most others, against models without it?",
        score=rmia,
    ),
}
"""Every attack by name, in the order of reports."""


def _fitted(phi_SN: Reals, of_SN: Bools) -> tuple[Reals, Reals]:
    """Median and variance of each record's margins over those shadows, shapes (N,); with few of
    them the mean variance of all records."""
    mean_N = _means(phi_SN, of_SN)
    centre_N = np.nanmedian(np.where(of_SN, phi_SN, np.nan), axis=0)
    variance_N = np.where(of_SN, phi_SN - mean_N, 0.0) ** 2
    variance_N = variance_N.sum(0) / of_SN.sum(0)
    if len(phi_SN) < OWN_VARIANCE_FROM:
        variance_N = np.full_like(variance_N, variance_N.mean())
    return np.asarray(centre_N), np.maximum(variance_N, LEAST_VARIANCE)


def _means(values_SN: Reals, of_SN: Bools) -> Reals:
    """Each record's mean over those shadows."""
    count_N = of_SN.sum(0)
    if not count_N.all():
        raise DataError("a record has no shadow model on one side", got=len(values_SN))
    return np.asarray(np.where(of_SN, values_SN, 0.0).sum(0) / count_N)
