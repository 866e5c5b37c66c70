"""A model that FSDP2 shards over ranks trains as the whole one does in one process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from dpigu.mechanisms import PRESETS
from dpigu.trainers.runs import RunFolder
from safetensors.torch import load_file

from tests.support.depth import DEEP
from tests.support.rank_groups import RankGroup, rank_group
from tests.trainers.distributed import sharded_cases as cases

pytestmark = pytest.mark.numerical

FULLY = pytest.mark.skipif(not DEEP, reason="the run with LoRA says it for less")
WAYS = [pytest.param(True, id="lora"), pytest.param(False, id="in-full", marks=FULLY)]


def same(found: cases.Told, expected: cases.Told) -> None:
    """The same weights, but for the order of sums."""
    for name, weights in expected.weights.items():
        torch.testing.assert_close(found.weights[name], weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lora", [False, True], ids=["in-full", "lora"])
def test_rows_of_a_sharded_model_are_those_of_the_whole(lora: bool, two: RankGroup) -> None:
    for found in two.same(cases.rows, lora):
        for a, b in zip(found["sharded"], found["whole"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
            assert bool((a != 0).any())


@pytest.mark.deep
@pytest.mark.parametrize("lora", WAYS)
def test_given_the_same_noise_ranks_train_a_sharded_model_as_one_process_does(
    lora: bool, two: RankGroup, tmp_path: Path
) -> None:
    """At rate 1 nothing else is random. The ranks have five and four records, two at a time: three
    microbatches and two. The run stops, and goes on with Adam's moments where they were; what the
    ranks left goes on in one process too."""
    two.same(cases.begun, lora, tmp_path / "two", 3)
    shutil.copytree(tmp_path / "two", tmp_path / "copy")
    found = two.same(cases.gone_on, lora, tmp_path / "two", 4)
    copied = cases.gone_on(lora, tmp_path / "copy", 4)
    cases.begun(lora, tmp_path / "alone", 3)
    expected = cases.gone_on(lora, tmp_path / "alone", 4)
    for one in (*found, copied):
        same(one, expected)
    assert found[0].summary == found[1].summary
    assert found[0].held + found[1].held == expected.held
    assert max(one.held for one in found) < 0.6 * expected.held
    a, b = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "two")
    assert a.ledger().charged == b.ledger().charged
    assert {p.name for p in a.public.iterdir()} == {p.name for p in b.public.iterdir()}
    stored = load_file(b.public / "model.safetensors")
    assert all(torch.equal(stored[n], w) for n, w in found[0].weights.items())


@pytest.mark.deep
@FULLY
def test_a_rank_without_a_record_computes_what_the_others_do(two: RankGroup) -> None:
    given = (cases.plan_of(cases.DPSGD, 1), cases.EVERYONE, 1)
    for one in two.same(cases.trained, *given):
        same(one, cases.trained(*given))


@pytest.mark.deep
@FULLY
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_trains_a_sharded_model_or_is_refused_before_a_charge(
    name: str, two: RankGroup
) -> None:
    """Votes, a top-k and subspaces see the whole released vector on every rank."""
    expected = cases.preset(name)
    for one in two.same(cases.preset, name):
        if isinstance(one, str):  # or for a reason that holds in one process too
            assert "no rank has all weights" in one or one == expected
        else:
            assert isinstance(expected, cases.Told)
            same(one, expected)


def test_what_a_sharded_model_cannot_have_is_refused(two: RankGroup) -> None:
    wanted = (
        "no layer that the fast engine knows has these parameters",
        "parts of the model are not sharded over all ranks",
        "FSDP2 computes in another precision than the weights'",
        "this phase needs a statistic, and no rank has all weights",
        "no rank has all weights of a model of FSDP2 to differentiate by",
        "the optimizer steps along whole matrices, and each rank has a part of them",
    )
    for said in two.same(cases.refusals):
        for line, part in zip(said, wanted, strict=True):
            assert part in line and "\n" not in line


def test_rows_that_are_not_the_gradient_are_refused(two: RankGroup) -> None:
    """A rule of a layer that is wrong: FSDP's own backward says so."""
    for said in two.same(cases.wrong_rule):
        assert "the rows of these parameters are not FSDP's gradient" in said
        assert "k.weight" in said and "norm.weight" not in said


@pytest.mark.deep
@FULLY
def test_a_rank_that_dies_in_a_forward_ends_the_run_of_the_other(tmp_path: Path) -> None:
    with rank_group(2, tmp_path) as pair:
        found = pair(cases.dying, tmp_path / "run")
    assert found[1] is None and found[0].kind == "RunError"
    assert "another rank has ended" in found[0].line and "\n" not in found[0].line
    assert RunFolder(tmp_path / "run").ledger().steps >= 1
