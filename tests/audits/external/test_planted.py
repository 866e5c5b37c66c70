"""Canaries planted in others' data: what trains, what is scored, and what spoils the evidence."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from dpigu.audits.external.planted import COMMITMENT, PLAN, PlantedCanaries, plant

from dpigu import DataError, RunError, Verdict, audit_planted, planted_scores

M = 200
EXAMPLES = Path(__file__).parents[3] / "examples"


def table(path: Path) -> Path:
    rows = [[f"{i}", str(i % 3)] for i in range(600)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["place", "y"], *rows])
    return path


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    plant(table(root / "data.csv"), M, root / "audit", target="y")
    return root / "audit"


def coins_of(folder: Path) -> list[int]:
    return list(json.loads((folder / PLAN).read_text())["coins"])


def scored(path: Path, scores: np.ndarray, ids: range | list[int] = range(M)) -> Path:
    lines = [f"{i},{score}\n" for i, score in zip(ids, scores, strict=True)]
    path.write_text("canary,score\n" + "".join(lines))
    return path


def test_heads_trains_under_another_label_and_tails_is_absent(folder: Path) -> None:
    trained = {place: label for place, label in rows_of(folder / "train.csv")}
    canaries = rows_of(folder / "canaries.csv")
    assert len(trained) == 600 - M + sum(coins_of(folder))
    for (number, place, label), coin in zip(canaries, coins_of(folder), strict=True):
        assert int(place) % 3 != int(label)
        assert trained.get(place) == (label if coin else None), number
    others = set(trained) - {place for _, place, _ in canaries}
    assert all(trained[place] == str(int(place) % 3) for place in others)


def test_only_the_owner_reads_the_coins_and_no_other_file_has_them(folder: Path) -> None:
    assert (folder / PLAN).stat().st_mode & 0o777 == 0o600
    assert set(json.loads((folder / COMMITMENT).read_text())) == {"commitment", "note"}
    assert not {"coin", "member"} & set(
        (folder / "canaries.csv").read_text().split("\n")[0].split(",")
    )


def test_scores_are_joined_by_number_and_leaks_contradict(folder: Path, tmp_path: Path) -> None:
    coins = np.array(coins_of(folder))
    order = list(reversed(range(M)))
    file = scored(tmp_path / "s.csv", 3.0 * coins[order] + np.arange(M) % 2, order)
    assert planted_scores(folder, file).members.tolist() == coins[order].tolist()
    audit = audit_planted(folder, file, claim_epsilon=1.0, delta=1e-5)
    assert audit.report.verdict is Verdict.CONTRADICTED
    assert (
        "bits" in dict((f["name"], f["value"]) for f in audit.data["facts"])["exposure of those in"]
    )


def test_scores_that_know_nothing_do_not(folder: Path, tmp_path: Path) -> None:
    file = scored(tmp_path / "s.csv", np.random.default_rng(0).normal(size=M))
    audit = audit_planted(folder, file, claim_epsilon=1.0, delta=1e-5)
    assert audit.report.verdict is Verdict.NOT_CONTRADICTED


def test_missing_scores_and_other_coins_support_no_verdict(folder: Path, tmp_path: Path) -> None:
    few = scored(tmp_path / "few.csv", np.zeros(M - 1), range(M - 1))
    twice = scored(tmp_path / "twice.csv", np.zeros(M), [0, *range(M - 1)])
    whole = scored(tmp_path / "whole.csv", np.arange(M))
    for file in (few, twice):
        found = audit_planted(folder, file, claim_epsilon=1.0, delta=1e-5).report
        assert found.verdict is Verdict.INVALID_AUDIT and "one score" in found.sentence
    plan = (folder / PLAN).read_text()
    other = json.loads(plan)
    other["coins"][0] = 1 - other["coins"][0]
    (folder / PLAN).write_text(json.dumps(other))
    try:
        found = audit_planted(folder, whole, claim_epsilon=1.0, delta=1e-5).report
    finally:
        (folder / PLAN).write_text(plan)
    assert found.verdict is Verdict.INVALID_AUDIT and "committed" in found.sentence


def sentences(folder: Path) -> PlantedCanaries:
    (folder / "text.txt").write_text("".join(f"line {i}\n" for i in range(50)))
    return plant(folder / "text.txt", 30, folder / "audit")


def test_a_text_gets_sentences_with_a_random_number(tmp_path: Path) -> None:
    files = sentences(tmp_path)
    made = files.canaries.read_text().splitlines()
    trained = files.train.read_text().splitlines()
    coins = coins_of(tmp_path / "audit")
    assert [line in trained for line in made] == [coin == 1 for coin in coins]
    assert len(set(made)) == 30 and len(trained) == 50 + sum(coins)
    with pytest.raises(RunError, match="there already"):
        sentences(tmp_path)


def test_what_cannot_be_planted_is_refused(tmp_path: Path) -> None:
    data = table(tmp_path / "data.csv")
    for count, target, why in (
        (301, "y", "too many"),
        (10, None, "name the column"),
        (10, "z", "name"),
    ):
        with pytest.raises(DataError, match=why):
            plant(data, count, tmp_path / "audit", target=target)
    with pytest.raises(DataError, match=r"\.csv or a \.txt"):
        plant(tmp_path / "none.csv", 10, tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_the_example_contradicts_a_tree_that_learnt_by_heart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loaded("audit_sklearn").main(tmp_path) is Verdict.CONTRADICTED
    assert "ε = 1 at δ = 1e-05" in capsys.readouterr().out


def test_the_example_of_sentences_scores_every_character_and_tells_exposure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Untrained, as its training takes half a minute."""
    example = loaded("audit_sentences")
    model, lines = example.Characters(8), ["ab", "abcd"]
    found = example.log_probabilities(model, lines)
    logits = model(torch.tensor([[0, 97, 98, 99]]))[0].log_softmax(-1)
    expected = logits[range(4), [97, 98, 99, 100]].detach().numpy()
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)
    np.testing.assert_allclose(found[0, :2], expected[:2], rtol=1e-5)
    assert np.isnan(found[0, 2:]).all()
    example.main(tmp_path, canaries=40, epochs=0)
    assert "exposure of those in: median" in capsys.readouterr().out
