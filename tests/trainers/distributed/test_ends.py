"""How a run of ranks ends: stopped by one, refused in one line, or with a rank that dies."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from dpigu.dpcore import DataError
from dpigu.trainers.runs import RunFolder

from tests.support.depth import DEEP
from tests.support.laws.data import settings_of
from tests.support.rank_groups import Failed, RankGroup, rank_group
from tests.trainers.distributed import cases

PLAN = cases.training_plan(12)


@pytest.mark.parametrize("rank", [0, 1])
def test_any_rank_may_stop_the_run(rank: int, two: RankGroup, tmp_path: Path) -> None:
    given = (rank, 3, PLAN, settings_of(), tmp_path / "run")
    assert two.same(cases.stopped_by, *given) == [3, 3]
    assert RunFolder(tmp_path / "run").ledger().steps == 3


def test_a_folder_that_is_taken_is_refused_on_every_rank(two: RankGroup, tmp_path: Path) -> None:
    two.same(cases.trained, cases.training_plan(1), settings_of(), tmp_path / "run")
    first, second = two(cases.trained, PLAN, settings_of(), tmp_path / "run")
    assert first.kind == second.kind == "RunError"
    assert first.line == second.line and "a run is there already" in first.line


def test_a_rank_with_other_records_is_refused(two: RankGroup, tmp_path: Path) -> None:
    """A record that sat in the slots of two ranks would count twice."""
    for refused in two(cases.other_data, tmp_path / "run"):
        assert "the ranks do not have the same data set" in refused.line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [("--canaries", "40"), ("--resume",), ("--budget", "b"), ()])
def test_ranks_with_other_commands_are_refused_before_they_wait(
    option: tuple[str, ...], two: RankGroup, tmp_path: Path
) -> None:
    """Each of these decides what the ranks speak of next: one would wait for what never comes."""
    out = ["--out", str(tmp_path / "run")]
    new = ["train", "--preset", "dpsgd", "--data", "digits", "--steps", "2"]
    second = ["train", *option] if "--resume" in option else [*new, *option]
    each = [[*new, *out], [*second, *(out if option else ())]]
    (status, _, first), (other, _, said) = two(cases.commanded_otherwise, each)
    assert status == other == 2 and not (tmp_path / "run").exists()
    assert "the ranks do not have the same options (got 1 of 2 differ from the first" in first
    assert f"differ from the first: {option[0] if option else '--out'}" in said


def test_a_rank_that_fails_ends_the_run_of_all(two: RankGroup, tmp_path: Path) -> None:
    noise = cases.RaisesAt(1, 5, DataError("the disk is gone"))
    first, second = two(cases.failing, PLAN, settings_of(), tmp_path / "run", noise)
    assert (first.kind, second.kind) == ("RunError", "DataError")
    assert "another rank has ended" in first.line and "\n" not in first.line
    assert RunFolder(tmp_path / "run").ledger().steps >= 4
    ended = two.same(cases.resumed, tmp_path / "run")
    assert ended[0]["summary"]["steps"] == RunFolder(tmp_path / "run").ledger().steps >= 12


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_leaves_a_folder_that_resumes(
    rank: int, two: RankGroup, tmp_path: Path
) -> None:
    """Three ranks, one of which is killed in its sixth step; two go on, or one alone."""
    noise, out = cases.RaisesAt(rank, 6), tmp_path / "run"
    with rank_group(3, tmp_path) as three:
        found = three(cases.failing, PLAN, settings_of(), out, noise)
    for at, end in enumerate(found):
        if at == rank:
            assert end is None
        else:
            assert isinstance(end, Failed) and end.kind == "RunError"
            assert "another rank has ended" in end.line and "\n" not in end.line
    assert RunFolder(out).ledger().steps >= 5
    if rank == 0:
        summary = cases.resumed(out)["summary"]
    else:
        summary = two.same(cases.resumed, out)[0]["summary"]
    assert summary["steps"] == RunFolder(out).ledger().steps >= 12 + summary["repeated_steps"]
    assert summary["claimed_epsilon"] is not None


@pytest.mark.deep
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_is_killed_at_any_moment(rank: int, tmp_path: Path) -> None:
    """Once they have found each other: the other says one line, and what there is resumes."""
    draw = random.Random()
    for kill in range(10 if DEEP else 1):
        out, folder = tmp_path / f"run-{kill}", tmp_path / f"ranks-{kill}"
        folder.mkdir()
        with rank_group(2, folder) as pair:
            pair.start(cases.trained, PLAN, settings_of(), out)
            while not (out.exists() or out.with_name(f".{out.name}.starting").exists()):
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, 1.0))
            pair.kill(rank)
            survivor = pair.ended()[1 - rank]
        if isinstance(survivor, Failed):
            assert survivor.kind == "RunError" and "\n" not in survivor.line
            assert "another rank has ended" in survivor.line
        if out.exists():
            already = RunFolder(out).ledger().steps
            summary = cases.resumed(out)["summary"]
            assert summary["steps"] == RunFolder(out).ledger().steps >= max(already, 12)


def law_no_rank_opens_a_step_that_is_not_paid_for(group: RankGroup, out: Path) -> None:
    assert set(group.same(cases.unpaid_steps, out)) == {0}


def test_no_rank_opens_a_step_that_is_not_paid_for(two: RankGroup, tmp_path: Path) -> None:
    law_no_rank_opens_a_step_that_is_not_paid_for(two, tmp_path / "run")


def test_the_command_prints_once_and_fails_in_a_line_a_rank(two: RankGroup, tmp_path: Path) -> None:
    plain = ["train", "--preset", "dpsgd", "--data", "digits", "--model", "linear"]
    plain += ["--steps", "2", "--noise-multiplier", "1", "--accountant", "rdp", "--batch", "60"]
    plain += ["--canaries", "20", "--out", str(tmp_path / "run")]
    (status, out, _), (other, nothing, _) = two.same(cases.commanded, plain)
    assert status == other == 0
    assert "ε =" in out and nothing == ""
    for status, out, err in two.same(cases.commanded, plain):
        assert (status, out) == (2, "") and len(err.splitlines()) == 1
        assert "--out" in err and "a run is there already" in err
