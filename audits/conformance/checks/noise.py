"""Checks of noisers: the law that is named is one that the kernel draws, and the multiplier that
is accounted for is the one that scales it. And of factorisations: numbers, and always the same."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from dpigu.audits.conformance.check import Broken, Subject, check, for_all, of_kind
from dpigu.dpcore.grammar.stages import Endless
from dpigu.dpcore.noise import LAWS
from dpigu.dpcore.noise.correlated import column_of
from hypothesis import strategies as st

MULTIPLIERS = st.sampled_from((1.0, 1e-6, 1e6)) | st.floats(0.01, 100)
ASKED = 4
"""How often a stage is asked the same: by the accountant, the kernel, and again at a resume."""


@check(
    "names-a-law",
    guards="The kernel draws the noise and the accountants know its event by the law's name: a "
    "name that nobody knows has neither, and one that changes is drawn as one and priced as "
    "another.",
    remedy="Set `law` to a name in `dpcore.noise.LAWS`, as a constant of the class. Another law "
    "needs a place in that table, with its event and its proof.",
    applies=of_kind("noiser"),
)
def names_a_law(subject: Subject) -> None:
    def named(multiplier: float) -> None:
        stage: Any = dataclasses.replace(subject.stage, noise_multiplier=multiplier)
        for law in [s.law for s in (stage, subject.stage) for _ in range(ASKED)]:
            if law not in LAWS:
                raise Broken("the kernel knows no such law", got=law, expected=sorted(LAWS))
            if law != subject.stage.law:
                raise Broken("it names another law when it is asked again", got=law)

    for_all(named, multiplier=MULTIPLIERS)


@check(
    "multiplier-is-its-option",
    guards="The event that accountants read has the multiplier by which the noise is scaled.",
    remedy="Keep noise_multiplier an option, and give it as it is: the trainer sets it.",
    applies=of_kind("noiser"),
)
def multiplier_is_its_option(subject: Subject) -> None:
    def equal(multiplier: float) -> None:
        stage: Any = dataclasses.replace(subject.stage, noise_multiplier=multiplier)
        for got in [stage.noise_multiplier for _ in range(ASKED)]:
            if got != multiplier:
                raise Broken("it changes the multiplier", got=got, expected=multiplier)

    for_all(equal, multiplier=MULTIPLIERS)


@check(
    "is-a-column-of-numbers",
    guards="The kernel scales the noise by the length of a factorisation's column, and a record "
    "takes its turn once in `bands` steps: a column of another length or of other numbers, "
    "or one that changes, would be encoded by one matrix and paid for by another.",
    remedy="Give `bands` finite numbers, the first above 0, from the options and the number of "
    "steps alone; if the factorisation is endless, one for each step, by its buffers.",
    applies=of_kind("factorisation"),
)
def is_a_column_of_numbers(subject: Subject) -> None:
    def column(steps: int) -> None:
        first, due = subject.stage.coefficients(steps), subject.stage.bands
        if isinstance(subject.stage, Endless):
            due, buffers = steps, subject.stage.buffers(steps)
            if first != column_of(buffers, steps) or buffers != subject.stage.buffers(steps):
                raise Broken("the column is not that of its buffers", got=first, expected=buffers)
        finite = all(math.isfinite(c) for c in first)
        if len(first) != due or not finite or first[0] <= 0:
            raise Broken("this is no column of an encoder", got=first, expected=due)
        if any(subject.stage.coefficients(steps) != first for _ in range(ASKED)):
            raise Broken("it gives another column when it is asked again", got=first)

    for_all(column, steps=st.integers(1, 300))
