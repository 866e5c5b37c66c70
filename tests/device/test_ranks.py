"""Ranks on a device: what lies there passes through the device's group, all else through gloo.

One process runs as the first of two, with stand-ins for torch's collectives that note what they
are given; the other rank has no records. NCCL itself needs GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from dpigu.mechanisms import dpsgd
from dpigu.trainers.distributed import Processes, processes
from torch import Tensor

from benchmarks.counts.counting import tensors_in
from tests.device.test_steps import waits_of
from tests.support.device.emulation import NAME
from tests.support.device.watched_runs import SmallNet, images, settings_for, watched

GLOO = object()
"""The group that `Processes` makes; the default one, None, is the device's."""


class Sent(NamedTuple):
    """A collective, the group that it passes through, and its tensors."""

    name: str
    group: object
    tensors: list[Tensor]


def _scatter(own_S: Tensor, padded: Tensor) -> None:
    own_S.copy_(padded[: len(own_S)])


def _gather(all_K: Tensor, own_S: Tensor) -> None:
    all_K.copy_(own_S.repeat(2))


@contextmanager
def first_of_two(patch: pytest.MonkeyPatch) -> Iterator[list[Sent]]:
    """What this process sends as rank 0 of 2."""
    sent: list[Sent] = []

    def noted(name: str, stand_in: Callable[..., None]) -> Callable[..., None]:
        def collective(*given: Any, group: object = None, **more: Any) -> None:
            sent.append(Sent(name, group, tensors_in(given)))
            stand_in(*given)

        return collective

    def nothing(*given: Any) -> None:
        pass

    for name, value in (("get_rank", 0), ("get_world_size", 2), ("is_initialized", True)):
        patch.setattr(dist, name, lambda value=value: value)
    patch.setattr(dist, "new_group", lambda backend: GLOO)
    patch.setattr(dist, "destroy_process_group", nothing)
    for name in ("all_reduce", "broadcast", "broadcast_object_list"):
        patch.setattr(dist, name, noted(name, nothing))
    patch.setattr(processes, "_reduce_scatter", noted("reduce_scatter", _scatter))
    patch.setattr(processes, "all_gather", noted("all_gather", _gather))
    yield sent


def law_what_lies_on_a_device_passes_through_its_group() -> None:
    with pytest.MonkeyPatch.context() as patch, first_of_two(patch) as sent:
        steps = watched(dpsgd(3), images(), SmallNet(), settings_for("dpsgd"))
    assert not waits_of(steps)
    assert {"reduce_scatter", "all_gather", "broadcast", "all_reduce"} <= {s.name for s in sent}
    for name, group, tensors in sent:
        there = group is None
        assert all((v.device.type == NAME) == there and v.is_contiguous() for v in tensors), name
        kinds = {v.dtype for v in tensors}
        assert not there or kinds <= {torch.float64, torch.uint8}, name  # NCCL has both


def test_what_lies_on_a_device_passes_through_its_group() -> None:
    law_what_lies_on_a_device_passes_through_its_group()


def test_a_device_that_speaks_through_gloo_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Processes._together
    monkeypatch.setattr(Processes, "_together", lambda self, tensor=None: together(self))
    with pytest.raises(AssertionError, match=r"broadcast|reduce_scatter"):
        law_what_lies_on_a_device_passes_through_its_group()
