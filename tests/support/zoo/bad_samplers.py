"""The bug zoo's samplers: batches that are not Poisson at the rate of 0.1."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

RATE = 0.1
Batch = NDArray[np.int64]


class Epochs:
    """Every epoch shuffles the records and cuts them into batches of a fixed size."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._batches: Iterator[Batch] = iter(())

    def __call__(self, present: int, step: int = 0) -> Batch:
        batch = next(self._batches, None)
        if batch is None:
            order = self._rng.permutation(present)
            self._batches = iter(np.split(order, round(1 / RATE)))
            batch = next(self._batches)
        return batch


_RNG = np.random.default_rng(1)


def fixed_size(present: int, step: int = 0) -> Batch:
    return _RNG.choice(present, 32, replace=False)


def with_replacement(present: int, step: int = 0) -> Batch:
    return _RNG.integers(0, present, 32)


def in_blocks(present: int, step: int = 0) -> Batch:
    starts = np.flatnonzero(_RNG.random(present // 4) < 0.1)
    return (4 * starts[:, None] + np.arange(4)).reshape(-1)


def some_twice_as_often(present: int, step: int = 0) -> Batch:
    rates = np.where(np.arange(present) < present // 20, 0.2, 0.1 * (1 - 1 / 19))
    return np.flatnonzero(_RNG.random(present) < rates)


def too_often(present: int, step: int = 0) -> Batch:
    return np.flatnonzero(_RNG.random(present) < 0.104)


def rounded_down(present: int, step: int = 0) -> Batch:
    return np.flatnonzero(_RNG.random(present) < 0.1)[:32]


def the_same_again(present: int, step: int = 0) -> Batch:
    return np.flatnonzero(np.random.default_rng(5).random(present) < 0.1)


class EarlierAgain:
    """Every tenth batch is the one of seven batches before."""

    def __init__(self) -> None:
        self._drawn: list[Batch] = []

    def __call__(self, present: int, step: int = 0) -> Batch:
        again = len(self._drawn) % 10 == 9
        batch = self._drawn[-7] if again else np.flatnonzero(_RNG.random(present) < RATE)
        self._drawn.append(batch)
        return batch


def one_too_many(present: int, step: int = 0) -> Batch:
    return np.array([present], dtype=np.int64)


SAMPLERS: dict[str, Callable[[], Callable[[int, int], Batch]]] = {
    "shuffled epochs": Epochs,
    "batches of a fixed size": lambda: fixed_size,
    "drawn with replacement": lambda: with_replacement,
    "a record that does not exist": lambda: one_too_many,
    "records in blocks": lambda: in_blocks,
    "some records twice as often": lambda: some_twice_as_often,
    "a rate 4% too high": lambda: too_often,
    "batches cut at the expected size": lambda: rounded_down,
    "an earlier batch now and then": EarlierAgain,
    "the same batch again": lambda: the_same_again,
}
"""Each makes a draw: from the number of records, and the step, to the indices of one batch."""
