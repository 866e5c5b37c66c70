"""Tasks on a Ray cluster: one core each; a task whose worker dies is done again elsewhere."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import torch
from dpigu.dpcore import DpiguError, RunError

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a task came to: its result, or its error in one line and, for the log, in full."""

    task: int
    result: T | None
    error: str | None = None
    traceback: str = ""


def on_cluster(
    work: Callable[[int], T], tasks: Sequence[int], log: Path
) -> Generator[tuple[int, T], None, None]:
    """`spread` on Ray: the cluster of `RAY_ADDRESS`, or one that this machine starts and ends.

    Raises: RunError without Ray, for a task's own error, or where workers die three times.
    """
    ray = _ray()
    with _connected(ray):
        shared = ray.put(work)
        remote = ray.remote(num_cpus=1, max_retries=3)(_outcome)
        waiting = [remote.remote(shared, task) for task in tasks]
        try:
            while waiting:
                (done,), waiting = ray.wait(waiting)
                yield _checked(ray, done, log)
        finally:
            for task in waiting:
                ray.cancel(task, force=True)


def _outcome(work: Callable[[int], T], task: int) -> Outcome[T]:
    torch.set_num_threads(1)
    try:
        return Outcome(task, work(task))
    except DpiguError as error:
        return Outcome(task, None, str(error))
    except Exception as error:  # its words may show records: they go to the private log
        return Outcome(task, None, type(error).__name__, traceback.format_exc())


def _checked(ray: Any, done: Any, log: Path) -> tuple[int, Any]:
    try:
        outcome: Outcome[Any] = ray.get(done)
    except ray.exceptions.RayError as error:
        raise RunError(
            "workers ended before their work was done",
            got=type(error).__name__,
            remedy="What was finished stays: run the command again.",
        ) from None
    if outcome.traceback:
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            file.write(outcome.traceback)
    if outcome.error is not None:
        where = str(log) if outcome.traceback else ""
        raise RunError(f"a worker failed: {outcome.error}", where=where)
    return outcome.task, outcome.result


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Ray at work; what was started here ends here."""
    if ray.is_initialized():
        yield
        return
    own = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise RunError(
            "Ray is not installed",
            where="workers",
            remedy="Install the extra dpigu[ray], or give a number of processes.",
        ) from None
    module: ModuleType = ray
    return module
