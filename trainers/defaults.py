"""The defaults of `dpigu train`: what our measurements found for each preset and data set.

They were chosen on a validation split of the training data; that choice is not charged.
"""

from __future__ import annotations

from typing import Any

_DATA: dict[str, dict[str, Any]] = {
    "digits": {"expected_batch": 256.0, "learning_rate": 0.5, "momentum": 0.9},
    "mnist": {"expected_batch": 1000.0, "learning_rate": 0.5, "momentum": 0.9},
    "fashion-mnist": {"expected_batch": 1000.0, "learning_rate": 0.5, "momentum": 0.9},
    "cifar10": {"expected_batch": 1000.0, "learning_rate": 0.5, "momentum": 0.9},
}
_STEPS = {"digits": 300, "mnist": 1000, "fashion-mnist": 1000, "cifar10": 1500}
_CLIPPING_NORM = {"digits": 0.5, "mnist": 0.5, "fashion-mnist": 0.5, "cifar10": 0.5}


def settings_for(preset: str, data: str, records: int) -> tuple[dict[str, Any], int]:
    """Settings and steps for a preset on a data set; about 2% of the records for unknown data."""
    settings: dict[str, Any] = {"epsilon": 4.0, "delta": 1e-5}
    settings |= _DATA.get(data, {"expected_batch": max(1.0, min(1000.0, records / 10))})
    if preset == "non-private":
        settings |= {"learning_rate": 0.05}
    return settings, _STEPS.get(data, 1000)


def clipping_norm_for(preset: str, data: str) -> float:
    """The clipping norm C that goes with the learning rate above."""
    return _CLIPPING_NORM.get(data, 0.5)
