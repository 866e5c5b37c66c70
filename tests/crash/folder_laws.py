"""Laws of a run folder, each of which a planted bug breaks (`core_ledger.py` of the mutants)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dpigu.dpcore import Plan, RunError
from dpigu.trainers import resume, train
from dpigu.trainers.runs import LedgerFile, RunFolder

from tests.crash.runs import Bystander, linear, points, settings, two_phases, watched
from tests.crash.test_every_operation import (
    SAMPLER,
    crashes,
    law_a_crash_costs_no_truth,
    law_paid_for,
)
from tests.crash.test_machine import Gone, Stops


def begun(out: Path, plan: Plan, stop: Stops, seen: Bystander) -> None:
    """A run that is stopped or killed by its observer."""
    with watched(seen, SAMPLER), pytest.MonkeyPatch.context() as patch:
        if stop.how is Gone:
            patch.setattr(LedgerFile, "close", lambda self: None)
        with pytest.raises(stop.how):
            train(plan, points(), linear(), settings(), out=out, observer=stop, progress=False)


def went_on(out: Path) -> Any:
    return resume(out, data=points(), model=linear(), progress=False)


def refuses(out: Path, says: str) -> None:
    """One line, and nothing is paid for or released."""
    before, seen = (out / "public/ledger.jsonl").read_bytes(), Bystander()
    said = ""
    with watched(seen, SAMPLER):
        try:
            went_on(out)
        except RunError as error:
            said = str(error)
    assert says in said and "\n" not in said, said
    assert not seen.events and (out / "public/ledger.jsonl").read_bytes() == before


def law_what_is_paid_is_flushed(out: Path) -> None:
    """After a power cut at any operation, the platter has paid for what was released."""
    dropped = [c for c in crashes(out.with_name("whole")) if c.image == "dropped"]
    for i, crash in enumerate(dropped[len(dropped) // 3 :: 9]):
        law_a_crash_costs_no_truth(crash, out.with_name(str(i)))


def law_one_process_at_a_time(out: Path) -> None:
    begun(out, two_phases(6), Stops(2, KeyboardInterrupt), Bystander())
    held = RunFolder.locked(out)
    refuses(out, "another process is at work")
    held.release()


def law_an_edited_configuration_is_refused(out: Path) -> None:
    begun(out, two_phases(6), Stops(2, KeyboardInterrupt), Bystander())
    path = out / "public/config.toml"
    path.write_text(path.read_text().replace("learning_rate = 0.1", "learning_rate = 0.2"))
    refuses(out, "the configuration was changed")


def law_a_shorter_ledger_is_refused(out: Path) -> None:
    begun(out, two_phases(6), Stops(4, KeyboardInterrupt), Bystander())
    path = out / "public/ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    refuses(out, "the ledger lacks lines")


def law_a_damaged_checkpoint_is_refused(out: Path) -> None:
    begun(out, two_phases(6), Stops(4, KeyboardInterrupt), Bystander())
    path = out / "public/checkpoint"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refuses(out, "the checkpoint is damaged")


def law_what_was_paid_ahead_is_lost_in_a_kill(out: Path) -> None:
    """Killed within a block of four and resumed: the ledger counts all that ran."""
    seen = Bystander()
    begun(out, two_phases(200), Stops(7, Gone), seen)
    law_paid_for(out, seen)
    stop = Stops(3, Gone)
    with watched(seen, SAMPLER), pytest.MonkeyPatch.context() as patch:
        patch.setattr(LedgerFile, "close", lambda self: None)
        with pytest.raises(Gone):
            resume(out, data=points(), model=linear(), observer=stop, progress=False)
    law_paid_for(out, seen)
    assert RunFolder(out).ledger().steps == 4 + 4 + 4


def law_an_interrupt_takes_back_only_what_never_began(out: Path) -> None:
    seen = Bystander()
    begun(out, two_phases(200), Stops(6, KeyboardInterrupt), seen)
    law_paid_for(out, seen)
    assert RunFolder(out).ledger().steps == len(seen.events) == 6
