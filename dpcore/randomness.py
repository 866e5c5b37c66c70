"""Bits from the operating system, and what is drawn from them: coins and seeds."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

WORD = 64


def system_words(count: int) -> NDArray[np.uint64]:
    """`count` independent words of 64 uniform bits: the keystream of AES-256 in counter mode.

    The key comes from the operating system, for this call alone. It is never stored and never
    used again, so that nothing can be replayed, and a forked process has no key or counter to
    share.

    Source: NIST SP 800-38A, section 6.5.
    """
    words = np.zeros(count, dtype=np.uint64)
    if count:
        keystream = Cipher(AES(os.urandom(32)), CTR(bytes(16))).encryptor()
        keystream.update_into(words.data.cast("B"), words.data.cast("B"))
    return words


def system_seed() -> int:
    """A seed of 63 bits for a generator that draws inside a record, such as dropout's."""
    return int(system_words(1)[0]) >> 1


def coins(rate: float, count: int) -> NDArray[np.bool_]:
    """`count` independent coins, each true with probability exactly `rate`, in [0, 1].

    A coin is true if a uniform number lies below the rate. Its binary digits are drawn 64 at a
    time, and more of them only where the first are those of the rate.
    """
    if rate == 1.0:
        return np.ones(count, dtype=np.bool_)
    digits = Fraction(rate) * 2**WORD
    first = int(digits)
    words = system_words(count)
    true = words < np.uint64(first)
    tied = np.flatnonzero(words == np.uint64(first))
    if len(tied) and digits > first:
        true[tied] = coins(float(digits - first), len(tied))
    return true
