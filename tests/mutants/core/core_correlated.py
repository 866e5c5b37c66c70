"""Bugs planted in correlated noise: its scale, its decoder, who takes part, and what is charged."""

from __future__ import annotations

from dpigu.dpcore import Phase, Plan, PoissonSampler
from dpigu.dpcore.noise import correlated as noise
from dpigu.dpcore.noise.correlated import Correlation, _Bands, _Buffers
from dpigu.trainers.runs import LedgerFile
from hypothesis import strategies as st

from tests.laws import test_correlated_noise as correlated
from tests.laws import test_endless_noise as endless
from tests.mutants.core.core_table import KernelMutant

ENCODER = {"column": correlated.COLUMNS, "at": st.integers(0, 3)}
STEPS = {"column": correlated.COLUMNS, "steps": st.integers(1, 7)}
TURNS = {"blocks": st.integers(1, 6), "records": st.integers(1, 30)}
ENDLESS = {"pairs": endless.PAIRS, "turns": st.integers(1, 3), "steps": st.integers(1, 6)}
WHOLE = {"turns": st.integers(1, 9), "steps": st.integers(2, 40), "rate": st.just(0.1)}
EVENTS = {"bands": st.integers(1, 9), "steps": st.integers(1, 40), "rate": st.just(0.1)}

MUTANTS = (
    KernelMutant(
        "an encoder whose length is not in the sensitivity",
        noise,
        "_numbers",
        (("length_of(c, turns)", "abs(c[0])"),),
        correlated.law_sensitivity_of_the_encoder,
        ENCODER,
    ),
    KernelMutant(
        "an encoder that scales its noise to the longest of its numbers",
        noise,
        "_numbers",
        (("length_of(c, turns)", "max(map(abs, c))"),),
        correlated.law_sensitivity_of_the_encoder,
        ENCODER,
    ),
    KernelMutant(
        "a decoder that takes away the un-noised sums",
        Correlation,
        "decoded",
        (("weight * past.decoded_K", "weight * past.sum_K"),),
        correlated.law_encoded_and_decoded,
        STEPS,
    ),
    KernelMutant(
        "an encoder that forgets the oldest of its steps",
        _Bands,
        "before",
        (("range(1, len(self._c))", "range(1, len(self._c) - 1)"),),
        correlated.law_encoded_and_decoded,
        STEPS,
    ),
    KernelMutant(
        "records that take part twice in a period",
        PoissonSampler,
        "draw",
        (("step % self.blocks", "step // 2 % self.blocks"),),
        correlated.law_records_take_turns,
        TURNS,
    ),
    KernelMutant(
        "a part of a period for nothing",
        Plan,
        "event",
        (("math.ceil(count / phase.period)", "count // phase.period"),),
        correlated.law_event_of_a_factorisation,
        EVENTS,
    ),
    KernelMutant(
        "records sampled at the plan's rate in the event, and at b times it in the steps",
        PoissonSampler,
        "event",
        (
            (
                "PoissonSampledDpEvent(self.block_rate, release)",
                "PoissonSampledDpEvent(self.rate, release)",
            ),
        ),
        correlated.law_event_of_a_factorisation,
        EVENTS,
    ),
    KernelMutant(
        "a resume that goes on with a factorisation whose sums are gone",
        LedgerFile,
        "begin_again",
        (("while rest > 0:", "while rest < 0:"),),
        correlated.law_a_resume_begins_a_new_factorisation,
    ),
    KernelMutant(
        "an encoder without an end that is scaled to one turn of a record",
        noise,
        "_numbers",
        (("length_of(c, turns)", "math.hypot(*c)"),),
        endless.law_sensitivity_of_all_turns,
        ENDLESS,
    ),
    KernelMutant(
        "buffers that do not fall",
        _Buffers,
        "_moved",
        (("theta * s.sum_K + left.sum_K", "s.sum_K + left.sum_K"),),
        endless.law_encoded_and_decoded,
        {"pairs": endless.PAIRS, "steps": st.integers(1, 7)},
    ),
    KernelMutant(
        "a record with many turns in one release, whose sampling is counted as if it had one",
        Phase,
        "event",
        (("event if self.pipeline.endless else turns.event(event)", "turns.event(event)"),),
        endless.law_a_phase_is_one_release,
        WHOLE,
    ),
)
