"""The defaults of `dpigu train`: what our measurements found for each preset and data set.

They were chosen on a validation split of the training data; that choice is not charged.
"""

from __future__ import annotations

from typing import Any

_IMAGES = {"learning_rate": 5.0, "momentum": 0.9, "schedule": "linear"}
_DATA: dict[str, dict[str, Any]] = {
    "digits": {"expected_batch": 256.0, "learning_rate": 0.5, "momentum": 0.9},
    "mnist": {"expected_batch": 2400.0, **_IMAGES},
    "fashion-mnist": {"expected_batch": 2400.0, **_IMAGES},
    "cifar10": {"expected_batch": 2000.0, **_IMAGES},
}
_STEPS = {"digits": 200, "mnist": 1000, "fashion-mnist": 1000, "cifar10": 1000}
_CLIPPING_NORM = {"digits": 0.2, "mnist": 0.1, "fashion-mnist": 0.1, "cifar10": 0.1}


def settings_for(preset: str, data: str, records: int) -> tuple[dict[str, Any], int]:
    """Settings and steps for a preset on a data set; about 2% of the records for unknown data."""
    settings: dict[str, Any] = {"epsilon": 4.0, "delta": 1e-5}
    settings |= _DATA.get(data, {"expected_batch": max(1.0, min(1000.0, records / 10))})
    if preset == "non-private":
        settings |= {"learning_rate": 0.05, "schedule": "constant"}
    return settings, _STEPS.get(data, 1000)


def clipping_norm_for(preset: str, data: str) -> float:
    """The clipping norm C that goes with the learning rate above."""
    return _CLIPPING_NORM.get(data, 0.5)
