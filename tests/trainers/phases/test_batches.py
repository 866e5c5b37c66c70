"""A step's rows: what is padded for other ranks goes through the model, and not to the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from dpigu.dpcore import PoissonSampler
from dpigu.trainers.phases.batches import Batches
from dpigu.trainers.phases.slots import Slots
from torch import Tensor


class Indices:
    """Records that are their own indices."""

    home = torch.device("cpu")

    def microbatches(
        self, sampled: Iterator[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for at_B, valid_B in sampled:
            yield at_B, at_B, valid_B


class Counting:
    """An engine whose rows are who is valid."""

    calls = 0

    def rows(self, weights: Any, x_B: Tensor, y_B: Tensor, valid_B: Tensor, where: Any) -> Tensor:
        self.calls += 1
        return valid_B


def test_padding_for_other_ranks_gives_no_rows() -> None:
    """40 ranks that pad to the largest of them would pass the public cap on rows, which is for one
    more expected batch and the sample's own spread."""
    every = PoissonSampler(1.0, 21)
    for more in (0, 3):
        engine = Counting()
        batches: Any = Batches(
            *(Slots.drawn(21, 10), every, 4, Indices()),  # type: ignore[arg-type]
            pieces=lambda own, more=more: own + more,
        )
        rows = list(batches.rows(engine, {}, None))
        assert (len(rows), engine.calls) == (6, 6 + more)
        assert sum(int(valid_B.sum()) for valid_B in rows) == 10
