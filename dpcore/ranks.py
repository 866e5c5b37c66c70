"""The processes that take a step together, each with rows of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Ranks(Protocol):
    """What processes that step together do with each other; all of them call the same methods.

    Every rank samples slots of its own and sums their rows. A coordinate of the sum is then one
    rank's: it adds the ranks' parts there, and draws the noise. No rank sees the noise of another
    before it is in a sum.
    """

    @property
    def rank(self) -> int:
        """Which one this is: from 0 to size − 1."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def total(self, count: int) -> int:
        """The sum of a number over the ranks."""
        ...

    def most(self, count: int) -> int:
        """The largest of the ranks' numbers."""
        ...

    def summed(self, sum_K: Tensor) -> Tensor:
        """This rank's coordinates of the ranks' sum, in float64; all ranks hold as many, and the
        last ones may hold padding."""
        ...

    def joined(self, own_S: Tensor, size: int) -> Tensor:
        """The first `size` coordinates of all ranks' own, the same bits on every rank."""
        ...

    def agreed(self, say: Callable[[], T]) -> T:
        """What the first rank says, on every rank; an error of its own ends the call on all."""
        ...

    def first(self, do: Callable[[], T]) -> T | None:
        """The first rank does it, and the others wait until it is done: None there."""
        ...

    def follow(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to the first rank's values, in place."""
        ...

    def leave(self) -> None:
        """Step with the others no more; whoever waits for this rank then fails in one line."""
        ...


class Alone:
    """One process by itself."""

    rank, size = 0, 1

    def total(self, count: int) -> int:
        return count

    def most(self, count: int) -> int:
        return count

    def summed(self, sum_K: Tensor) -> Tensor:
        return sum_K

    def joined(self, own_S: Tensor, size: int) -> Tensor:
        return own_S

    def agreed(self, say: Callable[[], T]) -> T:
        return say()

    def first(self, do: Callable[[], T]) -> T | None:
        return do()

    def follow(self, tensors: Iterable[Tensor]) -> None:
        pass

    def leave(self) -> None:
        pass


ALONE = Alone()
"""One process that trains by itself."""
