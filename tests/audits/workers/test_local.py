"""Tasks on this machine's processes: their results, their mistakes, their end."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
from dpigu.audits.workers import spread
from dpigu.dpcore import RunError

from tests.support.worker_tasks import die, refuse, sleep_but_for_the_first


def test_a_workers_mistake_is_one_line(tmp_path: Path) -> None:
    others = set(multiprocessing.active_children())
    with pytest.raises(RunError, match="a worker failed: task 3: nothing fits"):
        list(spread(refuse, [3, 4], 1, tmp_path / "log"))
    assert set(multiprocessing.active_children()) == others


def test_a_worker_that_dies_is_told_from_one_that_is_done(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="status 9"):
        list(spread(die, [0], 1, tmp_path / "log"))
    assert (tmp_path / "log").read_text() == "last words\n"
    assert list(spread(die, [], 1, tmp_path / "log")) == []


@pytest.mark.usefixtures("forked")
def test_workers_end_with_whoever_asked_for_them(tmp_path: Path) -> None:
    others = set(multiprocessing.active_children())
    work = spread(sleep_but_for_the_first, [0, 1], 1, tmp_path / "log")
    assert next(work) == (0, "awake")
    assert len(set(multiprocessing.active_children()) - others) == 1
    began = time.monotonic()
    work.close()
    assert set(multiprocessing.active_children()) == others and time.monotonic() - began < 60
