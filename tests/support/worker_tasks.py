"""Tasks for worker processes, apart from any test: a new process loads this and little else."""

from __future__ import annotations

import os
import sys
import time

from dpigu.dpcore.errors import DataError


def refuse(task: int) -> None:
    raise DataError("nothing fits", where=f"task {task}")


def die(task: int) -> None:
    print("last words", file=sys.stderr, flush=True)
    os._exit(9)


def sleep_but_for_the_first(task: int) -> None:
    if task:
        time.sleep(600)
