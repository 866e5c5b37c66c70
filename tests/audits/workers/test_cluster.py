"""Tasks on a Ray cluster, one that this machine starts: as on processes."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dpigu.audits.workers import spread
from dpigu.dpcore import RunError

from tests.support import worker_tasks
from tests.support.worker_tasks import (
    die,
    die_once,
    fail_on_a_record,
    refuse,
    sleep_but_for_the_first,
    square,
)


def test_without_ray_one_line_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def hidden(name: str, *args: Any, **kwargs: Any) -> ModuleType:
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", hidden)
    with pytest.raises(RunError, match=r"Ray is not installed. Install the extra dpigu\[ray\]"):
        list(spread(square, [1], "ray", tmp_path / "log"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[ModuleType]:
    """One cluster for all tests: it takes seconds to start."""
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(worker_tasks)
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
class TestCluster:
    def test_each_task_is_done_once(self, tmp_path: Path) -> None:
        assert sorted(spread(square, range(5), "ray", tmp_path / "log")) == [
            (n, n * n) for n in range(5)
        ]

    def test_a_workers_mistake_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="a worker failed: task 3: nothing fits"):
            list(spread(refuse, [3], "ray", tmp_path / "log"))

    def test_words_that_may_show_records_go_to_the_log(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        with pytest.raises(RunError) as told:
            list(spread(fail_on_a_record, [0], "ray", log))
        assert "ValueError" in str(told.value) and "4111" not in str(told.value)
        assert "4111" in log.read_text() and log.stat().st_mode & 0o077 == 0

    def test_a_task_whose_worker_dies_is_done_again(self, tmp_path: Path) -> None:
        work = partial(die_once, tmp_path)
        assert list(spread(work, [7], "ray", tmp_path / "log")) == [(7, 7)]

    def test_workers_that_always_die_are_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="workers ended before their work was done"):
            list(spread(die, [0], "ray", tmp_path / "log"))

    def test_tasks_end_with_whoever_asked_for_them(
        self, tmp_path: Path, cluster: ModuleType
    ) -> None:
        work = spread(sleep_but_for_the_first, [0, 1], "ray", tmp_path / "log")
        assert next(work) == (0, "awake")
        work.close()
        assert list(spread(square, [2, 3], "ray", tmp_path / "log"))  # both cores are free again
        assert cluster.is_initialized()  # who started it ends it
