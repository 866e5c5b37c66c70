"""Coupled draws: two runs of a replay are given the same bits wherever they ask for some.

A run draws noise, samples, slots, views, dropout and names from the operating system's entropy.
While a replay runs, the entropy is a stream under a key that this replay drew and forgets.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import sys
from collections import Counter
from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch


class _Streams:
    """Bytes that a key, who asks and how often they asked fix.

    Who asks is a function by file and name, so that a library which draws when it is first
    loaded moves nobody else's bits.
    """

    def __init__(self, key: bytes) -> None:
        self._key, self._calls = key, Counter[str]()

    def __call__(self, size: int) -> bytes:
        frame = sys._getframe(1)
        while frame.f_code.co_filename in _BETWEEN and frame.f_back is not None:
            frame = frame.f_back
        who = f"{frame.f_code.co_filename}: {frame.f_code.co_qualname}"
        self._calls[who] += 1
        return hashlib.shake_256(f"{self._key.hex()} {who} {self._calls[who]}".encode()).digest(
            size
        )


_BETWEEN = (random.__file__, secrets.__file__)


@contextlib.contextmanager
def coupled(key: bytes) -> Iterator[None]:
    """Every draw in this block is the key's alone; the global generators are put back after it.

    `os.urandom` keys the words of noise, samples and slots; `random` has a name of its own for
    it, which `secrets` draws from.
    """
    stream = _Streams(key)
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with (
        torch.random.fork_rng(),
        mock.patch.object(os, "urandom", stream),
        mock.patch.object(random, "_urandom", stream),
    ):
        seed = int.from_bytes(stream(4), "little")
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
