"""A run that is stopped at each operation on the disk goes on, and has paid for all it released.

`make crash` takes every operation of a short run and each of the three images that a crash there
can leave; here every thirty-third is taken. `CRASH_STRIDE` sets that number.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dpigu.accountants import get_accountant
from dpigu.dpcore import DpiguError, RunError
from dpigu.trainers import resume, train
from dpigu.trainers.calibration import epsilon_of_ledger
from dpigu.trainers.runs import RunFolder, disk

from tests.crash.file_layer import FileLayer, Image, laid_out
from tests.crash.runs import Bystander, linear, points, settings, two_phases, watched

STEPS = 4
STRIDE = int(os.environ.get("CRASH_STRIDE", "33"))
IMAGES: tuple[Image, ...] = ("kept", "dropped", "torn")
SAMPLER = settings().sampler(points().spec.records)


def started(out: Path) -> None:
    train(two_phases(STEPS), points(), linear(), settings(), out=out, progress=False)


def went_on(out: Path) -> Any:
    return resume(out, data=points(), model=linear(), progress=False)


@dataclass
class Crash:
    """What a crash before an operation leaves, and what was released until then."""

    operation: int
    image: Image
    files: dict[Path, bytes]
    seen: Bystander


def on(layer: FileLayer, out: Path, bystander: Bystander) -> None:
    """Start the run on a file layer."""
    with watched(bystander, SAMPLER), pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "os", layer)
        started(out)


def crashes(root: Path) -> list[Crash]:
    """Every crash that one run could have: at each operation, each image, each once."""
    root.mkdir()
    bystander, found = Bystander(), list[Crash]()
    layer = FileLayer(root)

    def before() -> None:
        for image in IMAGES:
            files, seen = layer.image(image), Bystander(list(bystander.events))
            last = [crash for crash in found[-len(IMAGES) :] if crash.image == image]
            if not last or (last[0].files, last[0].seen.events) != (files, seen.events):
                found.append(Crash(layer.done, image, files, seen))

    layer.before_each = before
    on(layer, root / "run", bystander)
    return found


def law_paid_for(out: Path, bystander: Bystander) -> None:
    """The ledger's ε is at least that of the releases that the bystander counted."""
    ledger = RunFolder(out).ledger()
    spent = epsilon_of_ledger(ledger).value
    seen = get_accountant("rdp").epsilon(bystander.event, 1e-5).value
    assert spent is not None and seen is not None
    assert ledger.steps >= len(bystander.events) and spent >= seen * (1 - 1e-9)


def law_goes_on(out: Path, bystander: Bystander) -> None:
    """Resumed, or begun again where nothing was begun, the run ends and its ε is the ledger's."""
    if (out / "public/config.toml").is_file():
        law_paid_for(out, bystander)
        with watched(bystander, SAMPLER):
            summary = went_on(out).summary
    else:
        assert not bystander.events, "something was released before there was a run"
        with watched(bystander, SAMPLER):
            started(out)
        summary = RunFolder(out).summary()
    law_paid_for(out, bystander)
    assert summary["epsilon"] == epsilon_of_ledger(RunFolder(out).ledger()).value
    assert summary["steps"] <= STEPS + 2  # a block is a step; a torn line costs one of each phase


def law_a_crash_costs_no_truth(crash: Crash, root: Path) -> None:
    """What a crash left goes on."""
    laid_out(crash.files, root)
    try:
        law_goes_on(root / "run", crash.seen)
    except DpiguError as error:
        raise AssertionError(f"operation {crash.operation}, {crash.image}: {error}") from error


def law_a_full_disk_is_one_line(root: Path, full_at: int) -> None:
    """On a disk that is full from one operation on, one line; with room again, the run goes on."""
    root.mkdir()
    bystander, layer = Bystander(), FileLayer(root, full_at)
    try:
        on(layer, root / "run", bystander)
    except RunError as error:
        assert "No space left" in str(error) and "\n" not in str(error)
    else:
        assert not layer.refused, "a write found the disk full, and nobody was told"
    law_goes_on(root / "run", bystander)


def test_a_run_stopped_at_each_operation_goes_on(tmp_path: Path) -> None:
    every = crashes(tmp_path / "whole")
    for i, crash in enumerate(every[::STRIDE]):
        law_a_crash_costs_no_truth(crash, tmp_path / str(i))
        shutil.rmtree(tmp_path / str(i), ignore_errors=True)
    operations = every[-1].operation + 1
    print(f"{len(every[::STRIDE])} of {len(every)} different crashes at {operations} operations")


def test_a_full_disk_is_one_line_at_each_operation(tmp_path: Path) -> None:
    count = crashes(tmp_path / "whole")[-1].operation + 1
    for at in range(STRIDE // 2, count, STRIDE):
        law_a_full_disk_is_one_line(tmp_path / str(at), at)
        shutil.rmtree(tmp_path / str(at))
    print(f"{len(range(STRIDE // 2, count, STRIDE))} of {count} operations")
