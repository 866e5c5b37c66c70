"""Tasks for workers, apart from any test: a new process loads this and little else."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from dpigu.dpcore.errors import DataError


def square(task: int) -> int:
    return task * task


def refuse(task: int) -> None:
    raise DataError("nothing fits", where=f"task {task}")


def fail_on_a_record(task: int) -> None:
    raise ValueError("the record 4111 is no number")


def die(task: int) -> None:
    print("last words", file=sys.stderr, flush=True)
    os._exit(9)


def die_once(folder: Path, task: int) -> int:
    try:
        (folder / f"seen-{task}").touch(exist_ok=False)
    except FileExistsError:
        return task
    os._exit(9)


def sleep_but_for_the_first(task: int) -> str:
    if task:
        time.sleep(600)
    return "awake"
