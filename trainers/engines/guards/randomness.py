"""Randomness inside a record: generators keyed afresh from the operating system, then put back.

Dropout, views and whatever a model draws come from torch's, Python's and NumPy's global
generators. What the user seeded, anybody can know: so rows are made from seeds that nobody
knows, drawn anew before every microbatch, and the generators are put back afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from dpigu.dpcore.randomness import system_seed


@contextmanager
def reseeded(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """The global generators at a fresh seed each, and as they were afterwards.

    Args:
        device: its generator too, if it has one.
        seed: for public made-up records alone; None takes the operating system's.
    """
    own = torch.get_device_module(device) if device.type != "cpu" else None
    own = own if hasattr(own, "get_rng_state") else None
    of_python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_device = own.get_rng_state(device) if own is not None else None

    def fresh() -> int:
        return system_seed() if seed is None else seed

    try:
        random.seed(fresh())
        np.random.seed([fresh() % 2**32, fresh() % 2**32])
        torch.default_generator.manual_seed(fresh())
        if own is not None:
            own.manual_seed(fresh())
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if own is not None and of_device is not None:
            own.set_rng_state(of_device, device)
