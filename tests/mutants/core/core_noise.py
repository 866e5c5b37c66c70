"""Bugs planted in the noise: its bits, its draws, its grid."""

from __future__ import annotations

from fractions import Fraction

from dpigu.dpcore import SystemNoise
from dpigu.dpcore import randomness as randomness_module
from dpigu.dpcore.noise import rounded
from dpigu.dpcore.noise.laws import RoundedGaussian
from hypothesis import strategies as st

from tests.laws.noise import test_noise as noise
from tests.laws.noise import test_noise_laws as noise_laws
from tests.laws.noise import test_randomness as randomness
from tests.laws.noise import test_rounded_gaussian as rounded_gaussian
from tests.mutants.core.core_table import KernelMutant
from tests.support.laws.strategies import batches

DRAWN = "to_device(torch.from_numpy(drawn), sum_S.device)"
WORDS = "randomness.system_words(count)"
ON_GRID = {"here": noise_laws.EXACT, "g_BD": batches(wild=False)}

MUTANTS = (
    KernelMutant(
        "noise reused between steps",
        SystemNoise,
        "words",
        ((WORDS, "np.random.PCG64(0).random_raw(count)"),),
        noise.law_independent,
    ),
    KernelMutant(
        "noise replayed after a resume",
        SystemNoise,
        "words",
        ((WORDS, "self.__dict__.setdefault('g', np.random.PCG64(0)).random_raw(count)"),),
        noise.law_never_replayed,
    ),
    KernelMutant(
        "noise from the generator that a user seeds",
        SystemNoise,
        "words",
        ((WORDS, "np.random.randint(0, 2**64, count, dtype=np.uint64)"),),
        noise.law_seeds_do_not_touch_it,
    ),
    KernelMutant(
        "noise that is uniform",
        rounded,
        "_magnitudes",
        (("ndtri(p)", "12**0.5 * (p - 0.5)"),),
        noise.law_normal,
    ),
    KernelMutant(
        "noise with its tails cut at three deviations",
        rounded,
        "_magnitudes",
        (("ndtri(p)", "ndtri(p).clip(-3, 3)"),),
        noise.law_normal,
    ),
    KernelMutant(
        "15% too little noise",
        RoundedGaussian,
        "noised",
        ((DRAWN, f"{DRAWN}.mul(0.85).round()"),),
        noise.law_normal,
    ),
    KernelMutant(
        "one draw on every coordinate",
        RoundedGaussian,
        "noised",
        ((DRAWN, f"{DRAWN}[:1].expand(len(sum_S))"),),
        noise.law_independent,
    ),
    KernelMutant(
        "a short pool of noise laid end to end",
        RoundedGaussian,
        "noised",
        ((DRAWN, f"{DRAWN}[:7].repeat(1 + len(sum_S) // 7)[:len(sum_S)]"),),
        noise.law_independent,
    ),
    KernelMutant(
        "noise that is half of the last step's",
        RoundedGaussian,
        "noised",
        (
            (
                DRAWN,
                f"((now := {DRAWN}) + source.__dict__.get('last', now), "
                "source.__dict__.update(last=now))[0].div(2**0.5).round()",
            ),
        ),
        noise.law_independent,
    ),
    KernelMutant(
        "a sum that is not rounded to the grid",
        RoundedGaussian,
        "noised",
        (("out=value_S[here]).round_()", "out=value_S[here])"),),
        noise_laws.law_released_on_the_grid,
        ON_GRID,
    ),
    KernelMutant(
        "a grid that adds nothing to the sensitivity",
        RoundedGaussian,
        "noised",
        (("(sensitivity + grid * math.sqrt(coordinates))", "sensitivity"),),
        noise_laws.law_sensitivity_on_the_grid,
        {
            "here": noise_laws.EXACT,
            "g_BD": batches(min_size=1),
            "at": st.integers(0, 5),
            "seed": st.integers(0, 9),
        },
    ),
    KernelMutant(
        "float64 that decides at a boundary too",
        rounded,
        "_magnitudes",
        (("margin >= 0.5", "margin >= 1e300"),),
        rounded_gaussian.law_every_word_of_16_bits,
        {"scale": st.sampled_from(rounded_gaussian.SCALES)},
    ),
    KernelMutant(
        "a boundary word that goes to the side of its middle",
        rounded,
        "_decided",
        (("while True:", "while True:\n        words = lambda n: np.array([2**63], np.uint64)"),),
        rounded_gaussian.law_further_digits,
        {"scale": st.sampled_from(rounded_gaussian.SCALES)},
    ),
    KernelMutant(
        "noise of two hundredths less",
        rounded,
        "_magnitudes",
        (("y *= -scale", "y *= -0.98 * scale"),),
        rounded_gaussian.law_small_scales_by_chi_square,
        {"scale": st.just(3.0)},
    ),
    KernelMutant(
        "threads that all round the first block",
        rounded,
        "rounded_gaussian",
        (("yield block", "yield blocks[0]"),),
        rounded_gaussian.law_blocks_and_threads,
        {"scale": st.just(2.0**26)},
    ),
    KernelMutant(
        "words with a bit that is never set",
        randomness_module,
        "system_words",
        (("return words", "return words >> np.uint64(1)"),),
        randomness.law_bits_are_fair,
    ),
    KernelMutant(
        "a key that a fork copies",
        randomness_module,
        "system_words",
        (("AES(os.urandom(32))", "AES(bytes(32))"),),
        randomness.law_forked_workers_never_share_a_stream,
    ),
    KernelMutant(
        "coins of 64 digits",
        randomness_module,
        "coins",
        (("if len(tied) and digits > first:", "if False:"),),
        randomness.law_a_coin_is_exact,
        {
            "rate": st.just(1 / 60 / 2**20),
            "word": st.just(int(Fraction(1 / 60 / 2**20) * 2**64)),
            "further": st.integers(0, 2**60),
        },
    ),
)
