"""Shared settings of the suite: Hypothesis profiles, the number of threads, real data."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.support.depth import DEEP
from tests.support.spared import spared

QUICK = 25
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile(
    "quick",
    max_examples=QUICK,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "deep",
    max_examples=100 * QUICK,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The emulated device is for a process of its own: its tests run where they are asked for."""
    asked = any("tests/device" in given for given in config.args)
    return True if collection_path == Path(__file__).parent / "device" and not asked else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with spared(item):
        return (yield)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked from this process, which has loaded what they need; loading takes seconds.

    Fresh ones start in `tests/audits/workers`, and everywhere under `make deep`.
    """
    if not DEEP:
        fork = multiprocessing.get_context("fork")
        monkeypatch.setattr("dpigu.audits.workers.local.get_context", lambda _: fork)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data; a test that needs it is skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real data is not here")
    return SHARED_DATA
