"""The training records as a run reads them: microbatches on the device, ahead of time if asked."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from dpigu.dpcore import DpiguError, RunError
from dpigu.dpcore.devices import to_device
from dpigu.trainers.data.checks import check_split
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.data.sources import Indices, Source, Tensors, bytes_of
from dpigu.trainers.engines.records import Tree
from dpigu.trainers.phases.slots import seated
from torch import Tensor
from torch.utils._pytree import tree_map

AHEAD = 2
"""Microbatches that every worker process reads ahead."""
SHARE = 0.5
"""Of a device's free memory that records may take."""

Piece = tuple[Tensor, Tensor]


class Records:
    """Reads microbatches of the training split.

    Records stay on the host and are read by index; a microbatch goes to the device by pinned
    memory, while the device still computes. Each is checked again as it is read: what was there
    when the run was prepared must be there still. Units are put together as they are read.
    Tensors are not read again where the device is the CPU, or has them all.

    Args:
        data: whose training split is read.
        device: where microbatches are wanted.
        stand_in: one made-up record, or unit, 1 × …, on the device: what stands where nobody is
            valid.
        workers: processes that read ahead; 0 reads here, when a microbatch is wanted.
        on_device: put all records on the device, if the declared number of them fits there.
    """

    def __init__(
        self,
        data: Data,
        device: torch.device,
        stand_in: tuple[Tree, Tree],
        workers: int = 0,
        on_device: bool = False,
    ) -> None:
        checked = replace(data, train=Checked(data.train, data.spec))
        self._source, self._device = checked.protected, device
        self._stand_in = stand_in
        self._stand_in_here = tree_map(lambda v: v.cpu(), stand_in)
        self._resident: Tensors | None = None
        self._pool: ProcessPoolExecutor | None = None
        in_place = device.type == "cpu" or (on_device and _fits(data, device))
        if data.units is None and isinstance(data.train, Tensors) and in_place:
            there = tree_map(lambda v: v.to(device), (data.train.x, data.train.y))
            self._resident = Tensors(*there)
        elif workers:
            self._pool = _pool(workers, self._source)
        self._workers = workers

    @property
    def home(self) -> torch.device:
        """Where indices of records are wanted."""
        return self._device if self._resident is not None else torch.device("cpu")

    def made_up(self, count: int) -> tuple[Tree, Tree, Tensor]:
        """A microbatch of made-up records, all valid: what a trial step is made of."""
        x_B, y_B = tree_map(lambda v_1: v_1.expand(count, *v_1.shape[1:]).clone(), self._stand_in)
        return x_B, y_B, torch.ones(count, dtype=torch.bool, device=self._device)

    def microbatches(self, sampled: Iterator[Piece]) -> Iterator[tuple[Tree, Tree, Tensor]]:
        """Inputs, targets and who is valid, for every piece of indices and who is valid."""
        x_1, y_1 = self._stand_in
        if (there := self._resident) is not None:
            for at_B, valid_B in sampled:
                x_B, y_B = seated(there.x, at_B, valid_B, x_1), seated(there.y, at_B, valid_B, y_1)
                yield x_B, y_B, valid_B
            return
        for (_, valid_B), both_V in self._read_ahead(sampled):
            x_B, y_B = self._placed(both_V, valid_B)
            yield x_B, y_B, to_device(valid_B, self._device)

    def _placed(self, tree_V: Tree, valid_B: Tensor) -> Any:
        """The valid records at their places, and the stand-in elsewhere, on the device."""

        def place(v_V: Tensor, v_1: Tensor) -> Tensor:
            found = v_1.expand(len(valid_B), *v_1.shape[1:]).clone()
            found[valid_B] = v_V
            return to_device(found, self._device)

        return tree_map(place, tree_V, self._stand_in_here)

    def _read_ahead(self, sampled: Iterator[Piece]) -> Iterator[tuple[Piece, tuple[Tree, Tree]]]:
        waiting: deque[tuple[Piece, Any]] = deque()
        for piece in sampled:
            at_V = piece[0][piece[1]].numpy()
            if self._pool is None:
                yield piece, _as_before(self._source.read, at_V)
                continue
            waiting.append((piece, self._pool.submit(_read_here, at_V)))
            if len(waiting) > AHEAD * self._workers:
                first, future = waiting.popleft()
                yield first, _as_before(future.result)
        for first, future in waiting:
            yield first, _as_before(future.result)


@dataclass(frozen=True, eq=False)
class Checked:
    """A source whose records are held against what is declared, whenever they are read."""

    source: Source
    spec: DataSpec

    def __len__(self) -> int:
        return len(self.source)

    def read(self, at: Indices) -> tuple[Tree, Tree]:
        x_B, y_B = self.source.read(at)
        check_split(self.spec, "training", x_B, y_B)
        return x_B, y_B


def _as_before(function: Any, *given: Any) -> tuple[Tree, Tree]:
    """What a source gives, or one error: all of it could be read when the run was prepared."""
    try:
        found: tuple[Tree, Tree] = function(*given)
        return found
    except DpiguError as error:
        raise RunError(
            "records cannot be read as they could when the run was prepared",
            where=error.where,
            remedy="Let the source stay as it is while a run goes on; then resume the run.",
        ) from error


def _fits(data: Data, device: torch.device) -> bool:
    """Whether the declared number of records has room on the device."""
    one = data.train.read(np.zeros(1, dtype=np.int64))
    free, _ = torch.get_device_module(device).mem_get_info(device)
    return data.spec.records * bytes_of(one) <= SHARE * float(free)


_here: Source | None = None


def _pool(workers: int, source: Source) -> ProcessPoolExecutor:
    """Processes that hold the source; forked where that can be, so that nothing is copied."""
    ways = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in ways else None)
    return ProcessPoolExecutor(workers, context, _hold, (source,))


def _hold(source: Source) -> None:
    global _here
    torch.set_num_threads(1)
    _here = source


def _read_here(at: Indices) -> tuple[Tree, Tree]:
    assert _here is not None
    return _here.read(at)
