"""Slots: where the present records sit among the declared ones, so that nobody ever moves up.

The numbers of a row depend in their last bits on its place in a microbatch, and at the kink of
a ReLU a last bit is half a gradient. So records are given places once, at random, and slots are
sampled in place of records: with one record less its slot stands empty, a made-up record is
computed there at weight zero, and every other record keeps its place, its microbatch and its
random stream. The size of a batch is Binomial(declared, rate) whatever the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from dpigu.dpcore import DataError, PoissonSampler
from dpigu.dpcore.devices import to_device
from dpigu.dpcore.randomness import system_words
from dpigu.trainers.engines import Tree, count_of
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

EMPTY = -1


@dataclass(frozen=True)
class Slots:
    """A random injection of the present records into the declared slots; private.

    Args:
        record_N: the record that sits in each slot, or `EMPTY`.
    """

    record_N: NDArray[np.int64]

    @classmethod
    def drawn(cls, declared: int, present: int, what: str = "records") -> Slots:
        """Drawn from the operating system's entropy: anew at every start and resume.

        Args:
            what: is counted: records, or units, each of which sits in one slot.

        Errors: `DataError` for more of them than declared.
        """
        if present > declared:
            raise DataError(
                f"there are more {what} than declared",
                where="records",
                got=present,
                expected=f"at most {declared}",
                remedy="Declare the largest number of them that the data may ever hold.",
            )
        record_N = np.full(declared, EMPTY, dtype=np.int64)
        record_N[np.argsort(system_words(declared))[:present]] = np.arange(present)
        return cls(record_N)

    @property
    def present(self) -> int:
        """How many records there are; private."""
        return int((self.record_N != EMPTY).sum())

    def part(self, rank: int, size: int) -> Slots:
        """The slots of one of several ranks, each of which samples its own.

        Disjoint parts that are sampled independently at one rate are one Poisson sample.
        """
        return Slots(self.record_N[rank::size])

    def without(self, record: int) -> Slots:
        """The same slots for data that lacks this record, whose later ones have moved up by one."""
        record_N = np.where(self.record_N == record, EMPTY, self.record_N)
        return Slots(np.where(record_N > record, record_N - 1, record_N))

    def sample(
        self,
        sampler: PoissonSampler,
        size: int,
        device: torch.device,
        step: int = 0,
        pieces: Callable[[int], int] = int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A step's batch in microbatches: the records of sampled slots, and where there is one.

        Args:
            pieces: how many microbatches there are to be, of as many as the sample needs.
        """
        drawn = self.record_N[sampler.draw(len(self.record_N), step)]
        return microbatches(drawn, size, device, pieces(math.ceil(len(drawn) / size)))


def microbatches(
    records: NDArray[np.int64], size: int, device: torch.device, least: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of exactly `size` indices with who is valid, at least so many; the last ones padded.

    Who is not valid has index 0: an empty slot or padding.
    """
    for start in range(0, max(len(records), least * size), size):
        piece = np.full(size, EMPTY, dtype=np.int64)
        found = records[start : start + size]
        piece[: len(found)] = found
        at = to_device(torch.from_numpy(piece), device)
        yield at.clamp_min(0), at != EMPTY


def seated(tree_N: Tree, at_B: Tensor, valid_B: Tensor, stand_in: Tree) -> Tree:
    """The records at these indices, and the stand-in (1 × …) where nobody is valid."""
    if count_of(tree_N) == 0:
        return tree_map(lambda v_1: v_1.expand(len(at_B), *v_1.shape[1:]), stand_in)

    def taken(v_N: Tensor, v_1: Tensor) -> Tensor:
        if v_N.device.type == "cpu" and v_N.is_floating_point():
            found = v_N.index_select(0, at_B)
            found[~valid_B] = v_1
            return found
        # A device would wait for who is valid, and not every integer type can be written so.
        return torch.where(valid_B.view(-1, *(1,) * (v_N.dim() - 1)), v_N[at_B], v_1)

    return tree_map(taken, tree_N, stand_in)
