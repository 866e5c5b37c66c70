"""Batches: Poisson samples of a run's slots, and their rows, microbatch by microbatch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dpigu.dpcore import PoissonSampler, Rows, Transform, Views
from dpigu.trainers.engines import RowEngine, Tree, no_rules_of_users, reseeded
from dpigu.trainers.reading import Records
from dpigu.trainers.slots import Slots
from torch import Tensor
from torch.func import vmap


@dataclass(frozen=True)
class Batches:
    """Samples slots, and computes a stand-in where no record sits.

    Args:
        slots: where the records sit.
        sampler: which slots are in a batch.
        microbatch: how many records go through the model at a time.
        records: reads them.
        views: the views of every record, each drawn for itself; None for the records as they are.
    """

    slots: Slots
    sampler: PoissonSampler
    microbatch: int
    records: Records
    views: Views | None = None

    def rows(
        self, engine: RowEngine, weights: Mapping[str, Tensor], transform: Transform
    ) -> Iterator[Rows]:
        """The rows of a fresh sample of the records at these weights."""
        sampled = self.slots.sample(self.sampler, self.microbatch, self.records.home)
        for x_B, y_B, valid_B in self.records.microbatches(sampled):
            with reseeded(valid_B.device):
                rows = engine.rows(weights, self._viewed(x_B), y_B, valid_B, transform)
            yield rows

    def _viewed(self, x_B: Tree) -> Tree:
        if self.views is None:
            return x_B
        with no_rules_of_users():
            return vmap(self.views.views, randomness="different")(x_B)
