"""Where the bits of the noise come from."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from dpigu.dpcore import randomness
from numpy.typing import NDArray


class NoiseSource(Protocol):
    """Independent uniform bits."""

    @property
    def private(self) -> bool:
        """False if anybody could draw the same bits again."""
        ...

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` fresh words of 64 bits."""
        ...


class SystemNoise:
    """Bits under a key of the operating system's, a new one for every call.

    Whoever can regenerate the noise can subtract it, so no key is kept or stored.
    """

    private = True

    def words(self, count: int) -> NDArray[np.uint64]:
        return randomness.system_words(count)


class ReproducibleNoise:
    """Bits that a seed fixes: for tests; a run that uses them is marked as not private."""

    private = False

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def words(self, count: int) -> NDArray[np.uint64]:
        return self._bits.random_raw(count)
