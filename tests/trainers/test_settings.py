"""Settings refuse words that nobody knows and values of another type, each in one line."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest
from dpigu.dpcore import Adjacency, ConfigurationError, Phase, Plan
from dpigu.dpcore.errors import GrammarError
from dpigu.mechanisms import dpsgd
from dpigu.trainers import Settings, calibrate
from dpigu.trainers.calibration import accountant_for
from hypothesis import given
from hypothesis import strategies as st

WORDS = {
    name: [w for part in (hint, *typing.get_args(hint)) for w in typing.get_args(part)]
    for name, hint in typing.get_type_hints(Settings).items()
    if "Literal" in str(hint)
}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("optimizer", "lion", "unknown word"),
        ("optimizer", "sdg", "Did you mean 'sgd'"),
        ("schedule", "cosin", "Did you mean 'cosine'"),
        ("accountant", "plt", "Did you mean 'pld'"),
        ("average", "mean", "unknown word"),
        ("engine", "fast", "unknown word"),
        ("physical_batch", "automatic", "Did you mean 'auto'"),
        ("physical_batch", 2.5, "wrong type"),
        ("evaluations", 2.0, "wrong type"),
        ("seed", True, "wrong type"),
        ("autocast", 1, "wrong type"),
        ("diagnostics", "yes", "wrong type"),
        ("delta", "1e-5", "wrong type"),
        ("momentum", None, "wrong type"),
        ("learning_rate", True, "wrong type"),
        ("epsilon", float("nan"), "out of range"),
        ("rate", 0.0, "out of range"),
        ("rate", 1.5, "out of range"),
        ("expected_batch", float("inf"), "out of range"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(name: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        Settings(**{name: value})
    assert str(refused.value).startswith(f"settings.{name}: ")
    assert "\n" not in str(refused.value)


STRANGERS = {
    "field": st.sampled_from([f.name for f in dataclasses.fields(Settings)]),
    "stranger": st.sampled_from([object(), [1.0], {"a": 1}, b"auto", 1j, ("sgd",)]),
    "text": st.text(max_size=5),
}


def law_a_value_of_another_type_is_refused(field: str, stranger: object, text: str) -> None:
    """Whatever its annotation does not allow: other types, and words that are not declared."""
    hint = typing.get_type_hints(Settings)[field]
    parts = typing.get_args(hint) if "|" in str(hint) or "Union" in str(hint) else (hint,)
    free = str in parts or text in WORDS.get(field, ())
    for value in [stranger] if free else [stranger, text]:
        try:
            Settings(**{field: value})
        except Exception as error:
            assert isinstance(error, ConfigurationError), error
        else:
            raise AssertionError(f"settings.{field} takes {value!r}")


@given(**STRANGERS)
def test_a_value_of_another_type_is_refused(field: str, stranger: object, text: str) -> None:
    law_a_value_of_another_type_is_refused(field, stranger, text)


@pytest.mark.parametrize("name", WORDS)
def test_every_declared_word_is_taken(name: str) -> None:
    for word in filter(lambda w: isinstance(w, str), WORDS[name]):
        assert getattr(Settings(**{name: word}), name) == word


def test_a_whole_number_is_a_number() -> None:
    learning_rate = Settings(learning_rate=1).learning_rate
    assert type(learning_rate) is float and learning_rate == 1.0


def test_a_phase_takes_whole_steps() -> None:
    (phase,) = dpsgd(3).phases
    for steps in (2.5, 3.0, True, "3", 0):
        with pytest.raises(GrammarError, match="whole number of steps"):
            Phase("main", phase.pipeline, steps)  # type: ignore[arg-type]  # the mistake itself


@given(
    shares=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    epochs=st.floats(0.5, 40),
    rate=st.floats(0.01, 1),
)
def test_epochs_are_steps_times_rate_shared_as_the_plan_says(
    shares: list[int], epochs: float, rate: float
) -> None:
    (only,) = dpsgd(1).phases
    plan = Plan(
        tuple(dataclasses.replace(only, name=f"p{i}", steps=n) for i, n in enumerate(shares))
    )
    steps = max(1, round(epochs / rate))
    settings = Settings(noise_multiplier=1.0, rate=rate, epochs=epochs, accountant="rdp")
    if steps < len(shares):
        with pytest.raises(ConfigurationError, match="fewer steps than phases"):
            calibrate(plan, settings, 1000)
        return
    found = [phase.steps for phase in calibrate(plan, settings, 1000).phases]
    assert sum(found) == steps
    for got, share in zip(found, shares, strict=True):
        assert got >= 1 and abs(got - steps * share / sum(shares)) <= len(shares) + 1


@pytest.mark.parametrize(
    ("steps", "batch", "adjacency", "named", "want", "why"),
    [
        (100, 499.0, Adjacency.ADD_OR_REMOVE_ONE, "auto", "rdp", "49900 visits"),
        (100, 500.0, Adjacency.ADD_OR_REMOVE_ONE, "auto", "prv", "50000 visits"),
        (1, 1.0, Adjacency.REPLACE_ONE, "auto", "pld", "replace-one"),
        (1, 1.0, Adjacency.ADD_OR_REMOVE_ONE, "prv", "prv", "named"),
    ],
)
def test_the_accountant_goes_by_the_length_of_the_run_unless_it_is_named(
    steps: int, batch: float, adjacency: Adjacency, named: Any, want: str, why: str
) -> None:
    plan = dataclasses.replace(dpsgd(steps), adjacency=adjacency)
    settings = Settings(noise_multiplier=1.0, expected_batch=batch, accountant=named)
    found = accountant_for(plan, settings.sampler(10_000), settings)
    assert found.name == want == calibrate(plan, settings, 10_000).accountant
    assert why in found.why
