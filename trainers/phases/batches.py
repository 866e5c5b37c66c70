"""Batches: Poisson samples of a run's slots, and their rows, microbatch by microbatch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from dpigu.dpcore import PoissonSampler, Rows, Transform, Views
from dpigu.trainers.engines import RowEngine, Tree, no_rules_of_users, reseeded
from dpigu.trainers.phases.reading import Records
from dpigu.trainers.phases.slots import Slots
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map


@dataclass(frozen=True)
class Batches:
    """Samples slots, and computes a stand-in where no record sits.

    Args:
        slots: where the records sit.
        sampler: which slots are in a batch.
        microbatch: how many records go through the model at a time.
        records: reads them.
        views: the views of every record, each drawn for itself; None for the records as they are.
        by_unit: whether what sits in a slot is a unit, with an axis of records.
        pieces: how many microbatches there are to be, of as many as a sample needs.
    """

    slots: Slots
    sampler: PoissonSampler
    microbatch: int
    records: Records
    views: Views | None = None
    by_unit: bool = False
    pieces: Callable[[int], int] = int

    def rows(
        self,
        engine: RowEngine,
        weights: Mapping[str, Tensor],
        transform: Transform,
        step: int = 0,
    ) -> Iterator[Rows]:
        """The rows of a fresh sample of the records, for this step of the phase, at these
        weights.

        The model is called on every piece, and what the sample did not need gives no rows: they
        would count towards the kernel's public cap.
        """
        needed = 0

        def asked(own: int) -> int:
            nonlocal needed
            needed = own
            return self.pieces(own)

        home = self.records.home
        sampled = self.slots.sample(self.sampler, self.microbatch, home, step, asked)
        formed = self._formed(self.records.microbatches(sampled), engine, weights, transform)
        for i, rows in enumerate(formed):
            if i < needed:
                yield rows

    def made_up(
        self, pieces: int, engine: RowEngine, weights: Mapping[str, Tensor], transform: Transform
    ) -> Iterator[Rows]:
        """The rows of so many microbatches of made-up records."""
        there = (self.records.made_up(self.microbatch) for _ in range(pieces))
        yield from self._formed(there, engine, weights, transform)

    def _formed(
        self,
        microbatches: Iterable[tuple[Tree, Tree, Tensor]],
        engine: RowEngine,
        weights: Mapping[str, Tensor],
        transform: Transform,
    ) -> Iterator[Rows]:
        for x_B, y_B, valid_B in microbatches:
            with reseeded(valid_B.device):
                x_BP, y_BP = self._parted(x_B, y_B)
                rows = engine.rows(weights, x_BP, y_BP, valid_B, transform)
            yield rows

    def _parted(self, x_B: Tree, y_B: Tree) -> tuple[Tree, Tree]:
        """What sits in the slots, with an axis of parts (views, a unit's records) if it has any."""
        if self.views is None:
            return x_B, y_B
        if not self.by_unit:
            x_B, y_B = tree_map(lambda v_B: v_B[:, None], (x_B, y_B))
        count = self.views.count
        with no_rules_of_users():
            x_BKV = vmap(vmap(self.views.views, randomness="different"), randomness="different")(
                x_B
            )
        x_BP = tree_map(lambda v_BKV: v_BKV.flatten(1, 2), x_BKV)
        return x_BP, tree_map(lambda v_BK: v_BK.repeat_interleave(count, 1), y_B)
