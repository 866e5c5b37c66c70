"""Bits, coins and seeds: uniform, exact, and never shared or repeated.

The statistical laws draw from the operating system. Each rejects at a level of 10⁻⁶.
"""

from __future__ import annotations

import multiprocessing
import os
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from dpigu.dpcore import PoissonSampler, randomness
from dpigu.dpcore.randomness import coins, system_seed, system_words
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

LEVEL = 1e-6


def test_words_are_the_counter_mode_of_the_systems_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block i is AES-256 of the counter i under the 32 bytes that the system gave."""
    key, asked = bytes(range(32)), []

    def urandom(size: int) -> bytes:
        asked.append(size)
        return key[:size]

    monkeypatch.setattr(os, "urandom", urandom)
    words = system_words(7)
    block = Cipher(AES(key), ECB()).encryptor()
    want = b"".join(block.update(i.to_bytes(16, "big")) for i in range(4))
    assert words.tobytes() == want[: 7 * 8] and asked == [32]


def law_bits_are_fair() -> None:
    """Each of 64 bits of 100,000 words, and the bytes of all: Binomial and χ²."""
    words = system_words(100_000)
    for bit in range(64):
        ones = int(((words >> np.uint64(bit)) & np.uint64(1)).sum())
        assert stats.binomtest(ones, len(words)).pvalue > LEVEL / 64
    counts = np.bincount(words.view(np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > LEVEL
    assert len(np.unique(words)) == len(words)  # a pair is equal with probability 3·10⁻¹⁰


def test_bits_are_fair() -> None:
    law_bits_are_fair()


def _words_of_a_child(pipe: Any) -> None:
    pipe.send([*system_words(1000).tolist(), system_seed()])


def law_forked_workers_never_share_a_stream() -> None:
    """Three forked processes and their parent draw 4000 words and no word twice."""
    before = system_words(1000).tolist()
    context = multiprocessing.get_context("fork")
    drawn: list[int] = list(before)
    for _ in range(3):
        ours, theirs = context.Pipe()
        child = context.Process(target=_words_of_a_child, args=(theirs,))
        child.start()
        drawn += ours.recv()
        child.join()
    drawn += system_words(1000).tolist()
    assert len(set(drawn)) == len(drawn) == 5003


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_forked_workers_never_share_a_stream() -> None:
    law_forked_workers_never_share_a_stream()


def law_a_coin_is_exact(rate: float, word: int, further: int) -> None:
    """A coin is true exactly where the number 0.word further is below the rate."""
    given_words = [word, further]

    def chosen(count: int) -> NDArray[np.uint64]:
        return np.array([given_words.pop(0)] * count, dtype=np.uint64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(randomness, "system_words", chosen)
        (coin,) = coins(rate, 1).tolist()
    digits = Fraction(word, 2**64) + Fraction(further, 2**128)
    assert coin == (digits < Fraction(rate))


RATES = st.floats(2.0**-60, 1.0, exclude_max=True) | st.sampled_from((0.5, 2.0**-64, 3 * 2.0**-66))


@given(rate=RATES, further=st.integers(0, 2**64 - 1), offset=st.integers(-2, 2))
def test_a_coin_is_exact(rate: float, further: int, offset: int) -> None:
    """Words around the rate's own digits, where alone it matters."""
    word = min(max(int(Fraction(rate) * 2**64) + offset, 0), 2**64 - 1)
    law_a_coin_is_exact(rate, word, further)


@pytest.mark.parametrize("rate", [0.5, 1 / 60, 0.999])
def test_coins_have_their_rate(rate: float) -> None:
    heads = int(coins(rate, 200_000).sum())
    assert stats.binomtest(heads, 200_000, rate).pvalue > LEVEL


def test_a_rate_of_1_takes_all_and_a_rate_of_0_none() -> None:
    assert coins(1.0, 100).all() and not coins(0.0, 100).any()
    assert coins(0.3, 0).shape == (0,)
    assert PoissonSampler(1.0, 5).draw(5).tolist() == [0, 1, 2, 3, 4]


def test_seeds_are_fresh_and_fit_every_generator() -> None:
    seeds = [system_seed() for _ in range(100)]
    assert len(set(seeds)) == 100 and all(0 <= seed < 2**63 for seed in seeds)
