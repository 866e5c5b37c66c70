"""Where many tasks run: one function for processes and for a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from dpigu.audits.workers.cluster import on_cluster
from dpigu.audits.workers.local import on_processes

T = TypeVar("T")
Workers = int | Literal["ray"]
"""A number of processes on this machine, or the Ray cluster that is there."""


def spread(
    work: Callable[[int], T], tasks: Sequence[int], workers: Workers, log: Path
) -> Generator[tuple[int, T], None, None]:
    """Do every task once, and yield each with its result as it is done, in any order.

    An interrupt, a failure or a closed iterator ends all of them at once. Who asks keeps each
    result as it comes, so that the next call asks for what is missing alone.

    Args:
        work: does one task with one torch thread; pickled for the workers, with all that it
            holds. On a cluster that is every machine's memory: records too.
        workers: processes at most, or `"ray"`: the cluster of `RAY_ADDRESS`, or this machine.
        log: a private file for what workers say beside; a traceback may show records.

    Raises: RunError with the one line of a task's own error, or where a worker died, or where
        Ray is not installed.
    """
    if not tasks:
        return
    run = (
        on_cluster(work, tasks, log)
        if workers == "ray"
        else on_processes(work, tasks, workers, log)
    )
    yield from run
