"""Real processes, killed at random moments: the ledger has paid for all that they released.

`make crash` kills 200; `CRASH_KILLS` sets the number. A process writes a byte to a file outside
the run folder after each release, and `kill -9` takes nothing back of that.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from dpigu.dpcore import Kernel, RunError
from dpigu.trainers import resume, train
from dpigu.trainers.calibration import epsilon_of_ledger
from dpigu.trainers.runs import RunFolder

from tests.crash.runs import linear, points, settings, two_phases

pytestmark = pytest.mark.flushes

KILLS = int(os.environ.get("CRASH_KILLS", "3"))
STEPS = 30


def worked(out: Path, record: Path) -> None:
    """Start the run, or go on with it, and note every release outside of it."""
    release = Kernel.release
    notes = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noted(self: Kernel, *arguments: object) -> object:
        made = release(self, *arguments)
        os.write(notes, b"1")
        return made

    Kernel.release = noted
    if (out / "public/config.toml").is_file():
        resume(out, data=points(), model=linear(), progress=False)
    else:
        train(two_phases(STEPS), points(), linear(), settings(), out=out, progress=False)


def seconds_of_a_whole_run(out: Path) -> float:
    """How long one process takes for a run, on this machine and now."""
    began, child = time.monotonic(), os.fork()
    if child == 0:
        torch.set_num_threads(1)
        worked(out, out.with_suffix(".record"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return time.monotonic() - began


def killed_after(seconds: float, out: Path, record: Path) -> bool:
    """Fork a process that works on the run, kill it after a while; whether it had ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            worked(out, record)
            status = 0
        finally:
            os._exit(status)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) == 0, "the run refused its own folder"
        return True
    return False


def test_killed_processes_have_paid_for_what_they_released(tmp_path: Path) -> None:
    draw, kills, runs, repeated = random.Random(), 0, 0, 0
    longest = seconds_of_a_whole_run(tmp_path / "whole")
    while kills < KILLS:
        out, record = tmp_path / f"run-{runs}", tmp_path / f"{runs}.record"
        while kills < KILLS:
            ended = killed_after(draw.uniform(0.0, longest), out, record)
            kills += not ended
            released = record.stat().st_size if record.is_file() else 0
            if (out / "public/config.toml").is_file():
                ledger = RunFolder(out).ledger()
                assert ledger.steps >= released
            else:
                assert released == 0
            if ended:
                summary = RunFolder(out).summary()
                assert summary["steps"] == RunFolder(out).ledger().steps >= released
                repeated += summary["repeated_steps"]
                break
        runs += 1
    print(f"{kills} kills in {runs} runs of {STEPS} steps, {repeated} steps repeated or lost")


def test_a_second_process_is_refused_in_one_line(tmp_path: Path) -> None:
    """Two processes on one folder: the second is told who the first is, and charges nothing."""
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        _interrupted(out)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        folder = RunFolder.locked(out)
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        folder.release()
        os._exit(0)
    os.read(ready[0], 1)
    try:
        with pytest.raises(RunError, match=f"another process .*: process {child} on") as caught:
            resume(out, data=points(), model=linear(), progress=False)
        assert "\n" not in str(caught.value)
    finally:
        os.write(go[1], b"1")
        os.waitpid(child, 0)
    run = resume(out, data=points(), model=linear(), progress=False)
    ledger = RunFolder(out).ledger()
    assert run.summary["steps"] == ledger.steps == STEPS + run.summary["repeated_steps"]
    assert run.summary["epsilon"] == epsilon_of_ledger(ledger).value


def _interrupted(out: Path) -> None:
    class Stop:
        left = 5

        def extra_rows(self, phase: str, context: object) -> None:
            return None

        def see(self, phase: str, release: object) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    train(
        two_phases(STEPS),
        points(),
        linear(),
        settings(),
        out=out,
        observer=Stop(),
        progress=False,
    )
