"""A canary's coin: how it is flipped, and whether coins may pass for fair ones."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from dpigu.audits.evidence import EvidenceError
from scipy.special import bdtr

UNFAIR = 1e-9
"""Coins less likely than this are refused as unfair; fair ones are refused as often."""


def flip(count: int) -> tuple[int, ...]:
    """Fair, independent coins from the system's entropy; a canary trains where its coin is 1."""
    draw = secrets.SystemRandom()
    return tuple(draw.getrandbits(1) for _ in range(count))


def check_coins(coins: Sequence[int]) -> None:
    """Refuse coins whose number of heads no fair coins would give."""
    heads, m = sum(coins), len(coins)
    if 2 * bdtr(min(heads, m - heads), m, 0.5) < UNFAIR:
        raise EvidenceError(
            "the coins are no fair coins",
            remedy="Train again with canaries by fresh coins.",
        )
