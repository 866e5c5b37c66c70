"""Which ranks a process is one of, and that all of them were started alike."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from dpigu.dpcore import Ranks, RunError
from dpigu.dpcore.ranks import ALONE
from dpigu.trainers.distributed.processes import Processes

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` sets in every process that it starts."""


def here() -> Ranks:
    """The processes of torch.distributed, joined now where `torchrun` started this one; or alone.

    All of them must call it, and in the same order.

    Errors: `RunError` where the others cannot be found.
    """
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized() and all(name in os.environ for name in LAUNCHED):
        _join()
    return Processes() if dist.is_initialized() and dist.get_world_size() > 1 else ALONE


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks, which this process leaves if it fails inside: nobody waits for it then."""
    ranks = here()
    with leaving(ranks):
        yield ranks


@contextmanager
def leaving(ranks: Ranks) -> Iterator[None]:
    """Leave the ranks if anything fails inside."""
    try:
        yield
    except BaseException:
        ranks.leave()
        raise


def check_same(ranks: Ranks, what: str, own: object) -> None:
    """An error on every rank if one has something else than the first.

    Raises: RunError; of mappings, a rank that differs names the keys.
    """
    first = ranks.agreed(lambda: own)
    if others := ranks.total(int(first != own)):
        differ = f"{others} of {ranks.size} differ from the first"
        if isinstance(own, Mapping) and isinstance(first, Mapping):
            names = [str(key) for key in {**first, **own} if first.get(key) != own.get(key)]
            differ += f": {', '.join(names)}" if names else ""
        raise RunError(
            f"the ranks do not have the same {what}",
            where=f"rank {ranks.rank} of {ranks.size}",
            got=differ,
            remedy="Start every rank with the same command and the same data.",
        )


def _join() -> None:
    """Find the other processes: gloo between hosts, NCCL between GPUs, one of them a process."""
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    except (RuntimeError, ValueError) as error:
        raise RunError(
            "the other processes cannot be found",
            where=" ".join(f"{name}={os.environ[name]}" for name in LAUNCHED),
            got=str(error).splitlines()[0],
            remedy="Start all of them with `torchrun`.",
        ) from error
    atexit.register(_part)


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
