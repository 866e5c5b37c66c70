"""The rounded Gaussian: every integer has exactly its probability.

A sampler of 16-bit words is enumerated. A word whose interval lies between two rounding
boundaries gives the integer between them, and every other word draws further digits and is
divided by the same boundaries. So P(k) is Φ((k + ½)/s) − Φ((k − ½)/s) with no error at all. The
sampler of 64-bit words is compared with mpmath at random and beside boundaries;
benchmarks/noise/noise_words.py does so for a million words.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from dpigu.dpcore.noise import ReproducibleNoise, SystemNoise, rounded, rounded_gaussian
from numpy.typing import NDArray
from scipy import stats

from benchmarks.noise.noise_words import TOP, disagreements, edge
from tests.laws.noise.noise_words import PRECISE, Words, integer_of, word_of

BITS = 16
HALF = 2 ** (BITS - 1)
SCALES = (1.0, math.pi, 37.5)
LEVEL = 1e-6


class Enumerated:
    """Every word of 16 bits in order; and where a single one is asked for, the same digits."""

    private = False

    def __init__(self) -> None:
        self.given = 0

    def words(self, count: int) -> NDArray[np.uint64]:
        if count == 1:
            return np.array([0xA5A5 << 48], dtype=np.uint64)
        words = np.arange(self.given, self.given + count, dtype=np.uint64)
        self.given += count
        return words << np.uint64(64 - BITS)


def edges_of(scale: float) -> list[mpmath.mpf]:
    """2¹⁶ · P(N(0, s²) ≥ k − ½) for k = 1, 2, … as long as it is above 2⁻²⁰⁰."""
    with mpmath.workprec(PRECISE):
        edges: list[mpmath.mpf] = []
        while not edges or edges[-1] > mpmath.ldexp(1, -200):
            x = (2 * len(edges) + 1) / (mpmath.sqrt(8) * mpmath.mpf(scale))
            edges.append(mpmath.ldexp(mpmath.erfc(x) / 2, BITS))
        return edges


def law_every_word_of_16_bits(scale: float) -> None:
    """Words between two boundaries give that integer at once; exactly the others ask for more."""
    asked: set[int] = set()

    original = rounded._decided

    def decided(digits: int, bits: int, scale: float, words: rounded.Words) -> int:
        def counted(count: int) -> NDArray[np.uint64]:
            asked.add(digits)
            return words(count)

        return original(digits, bits, scale, counted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounded, "_decided", decided)
        integers = rounded_gaussian(Enumerated().words, 2**BITS, scale, bits=BITS)
    assert np.array_equal(integers[::-1], -integers)
    edges = edges_of(scale)
    assert asked == {int(mpmath.floor(edge)) for edge in edges}
    at_once = Counter(k for digits, k in enumerate(integers[:HALF].tolist()) if digits not in asked)
    bounds = [mpmath.mpf(HALF), *edges]
    for k, (high, low) in enumerate(pairwise(bounds)):
        inside = int(mpmath.floor(high)) - int(mpmath.ceil(low))
        assert at_once[k] == max(inside, 0)
    assert sum(at_once.values()) + len(asked) == HALF


@pytest.mark.parametrize("scale", SCALES)
def test_every_word_of_16_bits_gives_its_integer(scale: float) -> None:
    law_every_word_of_16_bits(scale)


def law_further_digits(scale: float) -> None:
    """A word that holds one boundary is divided by it: below it gives k, above it k − 1."""
    edges = edges_of(scale)
    for k, at in enumerate(edges[:60], start=1):
        word = int(mpmath.floor(at))
        if sum(int(mpmath.floor(e)) == word for e in edges) > 1:
            continue
        with mpmath.workprec(PRECISE):
            cut = int(mpmath.floor((at - word) * 2**BITS))
        for more in {0, cut - 2, cut - 1, cut + 1, cut + 2, 2**BITS - 1} - {cut}:
            if 0 <= more < 2**BITS:
                source = Words([more << 48])
                got = rounded._decided(word, BITS, scale, source.words)
                assert got == (k if more < cut else k - 1)
        for last in (0, 2**BITS - 1):  # the boundary again: two words decide
            source = Words([cut << 48, last << 48])
            got = rounded._decided(word, BITS, scale, source.words)
            assert got in (k, k - 1) and (got == k) == (last == 0) and not source.left


@pytest.mark.parametrize("scale", SCALES)
def test_further_digits_divide_a_boundary_word_at_its_boundary(scale: float) -> None:
    law_further_digits(scale)


@pytest.mark.parametrize("scale", [37.5, 2.0**20 / 3, 2.0**26, 1.234 * 2.0**26, 2.0**40])
def test_words_of_64_bits_give_the_integers_of_mpmath(scale: float) -> None:
    """Half of them beside a boundary, where float64 cannot tell."""
    found = disagreements(ReproducibleNoise(1), 400, scale)
    assert found.wrong == [] and found.random == found.beside == 200


def test_a_word_of_64_bits_that_holds_a_boundary_draws_further_digits() -> None:
    scale = 1.3 * 2.0**26
    for k in (1, 2, 10**6, 3 * 10**7, 3 * 10**8):
        given = [rounded._decided(edge(k, scale), 64, scale, Words([w]).words) for w in (0, TOP)]
        assert given == [k, k - 1]


def test_the_two_references_agree() -> None:
    """Boundaries by erfc, as the benchmark and the sampler have them, and by Newton's quantile."""
    for z in (-3.3, -0.4, 1e-9, 0.7, 2.0, 6.1):
        for scale in (1.5, 2.0**26.4):
            word = word_of(z)
            got = rounded_gaussian(Words([word]).words, 1, scale)
            assert integer_of(word, scale) == int(got[0])


def law_small_scales_by_chi_square(scale: float) -> None:
    """χ² of 400,000 system draws against the exact probabilities; false alarms: 10⁻⁶."""
    drawn = rounded_gaussian(SystemNoise().words, 400_000, scale)
    inner = math.floor(3 * scale)
    ks = np.arange(-inner, inner + 1)
    p = stats.norm.cdf((ks + 0.5) / scale) - stats.norm.cdf((ks - 0.5) / scale)
    seen = np.array([(drawn == k).sum() for k in ks])
    p, seen = np.append(p, 1 - p.sum()), np.append(seen, len(drawn) - seen.sum())
    assert stats.chisquare(seen, p * len(drawn)).pvalue > LEVEL


@pytest.mark.parametrize("scale", [1.0, math.pi])
def test_small_scales_have_their_probabilities(scale: float) -> None:
    law_small_scales_by_chi_square(scale)


def law_blocks_and_threads(scale: float) -> None:
    """However many draws and threads, each draw has a word of its own, and the same one."""
    whole = rounded.rounded_gaussian(ReproducibleNoise(3).words, 1000, scale)
    for threads in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rounded, "BLOCK", 64)
            words = ReproducibleNoise(3).words
            cut = rounded.rounded_gaussian(words, 1000, scale, threads=threads)
        assert np.array_equal(cut, whole)


def test_a_block_ends_where_the_vector_ends() -> None:
    law_blocks_and_threads(2.0**26)
    law_blocks_and_threads(2.0**41)  # one draw in twenty asks for more digits
    assert rounded_gaussian(SystemNoise().words, 0, 2.0**26).shape == (0,)


@pytest.mark.parametrize("scale", [0.0, 0.5, -1.0, 2.0**49, math.inf, math.nan])
def test_a_scale_out_of_range_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="a scale from 1 to 2⁴⁸"):
        rounded_gaussian(SystemNoise().words, 1, scale)
