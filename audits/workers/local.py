"""Worker processes for long, independent tasks: one torch thread each, and none left behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeVar

import torch
from dpigu.dpcore import DpiguError, RunError

T = TypeVar("T")


def on_processes(
    work: Callable[[int], T], tasks: Sequence[int], workers: int, log: Path
) -> Generator[tuple[int, T], None, None]:
    """`spread` on fresh processes of this machine.

    Raises: RunError with the one line of a task's own error, or where a worker died.
    """
    workers = min(max(1, workers), len(tasks))
    with _crew(work, [tasks[w::workers] for w in range(workers)], log) as crew:
        while crew:
            for receiver in wait(list(crew)):
                assert isinstance(receiver, Connection)
                try:
                    said = receiver.recv()
                except EOFError:
                    _check_end(crew.pop(receiver), log)
                    continue
                if isinstance(said, str):
                    raise RunError(f"a worker failed: {said}")
                yield said


def _check_end(process: SpawnProcess, log: Path) -> None:
    process.join()
    if process.exitcode != 0:
        raise RunError(
            "a worker ended before its work was done",
            where=str(log),
            got=f"status {process.exitcode}",
            remedy="The file has its last words. What was finished stays: run the command again.",
        )


@contextmanager
def _crew(
    work: Callable[[int], object], shares: Sequence[Sequence[int]], log: Path
) -> Iterator[dict[Connection, SpawnProcess]]:
    """Worker processes by the connection that each speaks through."""
    context = get_context("spawn")
    crew: dict[Connection, SpawnProcess] = {}
    try:
        with _deaf_to_interrupts():  # the workers inherit it: an interrupt is the parent's
            for share in shares:
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_do, args=(work, share, sender, log), daemon=True)
                process.start()
                sender.close()
                crew[receiver] = process
        yield crew
    finally:
        for process in crew.values():
            process.terminate()
        for process in crew.values():
            process.join()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _do(work: Callable[[int], object], share: Sequence[int], sender: Connection, log: Path) -> None:
    """A worker's life; its standard error goes to the log, as a traceback may show records."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    torch.set_num_threads(1)
    try:
        for task in share:
            sender.send((task, work(task)))
    except DpiguError as error:
        sender.send(str(error))
