"""Groups of gloo processes that run case after case, forked once: no import is paid again."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # torch would load it at the first step of an optimizer, in every process
import torch.distributed as dist


class Failed(Exception):
    """What a rank raised: the kind of error, its line, and the traceback."""

    @property
    def kind(self) -> str:
        return str(self.args[0])

    @property
    def line(self) -> str:
        return str(self.args[1])


class RankGroup:
    """So many processes, each of which has joined the others.

    Args:
        size: how many.
        folder: a fresh one, where they find each other.
    """

    def __init__(self, size: int, folder: Path) -> None:
        context = get_context("fork")
        pipes = [context.Pipe() for _ in range(size)]
        self._ends = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=_serve, args=(rank, pipes, folder / "ranks"), daemon=True)
            for rank in range(size)
        ]
        for process in self._processes:
            process.start()
        for _, theirs in pipes:
            theirs.close()

    def __call__(self, case: Callable[..., Any], *given: Any) -> list[Any]:
        """What every rank returns of `case(*given)`: what it raised too, and None where it died."""
        self.start(case, *given)
        return self.ended()

    def start(self, case: Callable[..., Any], *given: Any) -> None:
        """Let every rank begin a case."""
        for end in self._ends:
            end.send((case, given))

    def ended(self) -> list[Any]:
        """What every rank returns, once all have ended."""
        return [_received(end) for end in self._ends]

    def kill(self, rank: int) -> None:
        """End a rank in the middle of whatever it does."""
        self._processes[rank].kill()

    def same(self, case: Callable[..., Any], *given: Any) -> list[Any]:
        """What every rank returns, where none may fail."""
        found = self(case, *given)
        for one in found:
            if isinstance(one, Failed):
                raise one
        return found

    def close(self) -> None:
        """End the processes that are left."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.kill()
            process.join()


@contextmanager
def rank_group(size: int, folder: Path) -> Iterator[RankGroup]:
    """A group that ends with the block."""
    group = RankGroup(size, folder)
    try:
        yield group
    finally:
        group.close()


def _received(end: Connection) -> Any:
    try:
        return end.recv() if end.poll(120) else Failed("", "a rank gives no answer", "")
    except (EOFError, ConnectionResetError):
        return None


def _serve(rank: int, pipes: list[tuple[Connection, Connection]], store: Path) -> None:
    """A rank's life: one case after the other, until the test lets go."""
    torch.set_num_threads(1)
    for at, (ours, theirs) in enumerate(pipes):
        ours.close()
        if at != rank:
            theirs.close()
    end = pipes[rank][1]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=len(pipes))
    while True:
        try:
            case, given = end.recv()
        except EOFError:
            os._exit(0)
        try:
            answer = case(*given)
        except BaseException as error:
            answer = Failed(type(error).__name__, str(error), traceback.format_exc())
        end.send(answer)
