"""The audit of a trained model: what it contradicts, what it does not, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dpigu.audits import CanaryPlan, ModelAudit, Verdict, audit_model, plan_canaries
from dpigu.audits.scores import margin
from dpigu.dpcore import DataError, Plan, RunError
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Data, DataSpec, Settings, Tensors, train
from dpigu.trainers.data import Scaling
from dpigu.trainers.runs import RunFolder
from safetensors.torch import load_file, save_file
from torch import nn

RECORDS, WIDTH, CLASSES, CANARIES = 500, 400, 4, 200


def easily_learnt_by_heart() -> Data:
    """Four classes of wide noise, far enough apart that a linear model could tell them."""
    draw = torch.Generator().manual_seed(3)
    y = torch.randint(CLASSES, (RECORDS + 100,), generator=draw)
    x = torch.randn(len(y), WIDTH, generator=draw) + 2.0 * nn.functional.one_hot(y, WIDTH)
    spec = DataSpec("noise", RECORDS, CLASSES, (WIDTH,), Scaling())
    return Data(spec, Tensors(x[:RECORDS], y[:RECORDS]), Tensors(x[RECORDS:], y[RECORDS:]))


DATA = easily_learnt_by_heart()


def module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(WIDTH, CLASSES)


def trained(path: Path, plan: Plan, canaries: CanaryPlan | None) -> Path:
    settings = Settings(
        noise_multiplier=1.0 if plan.private else None,
        rate=0.5,
        accountant="rdp",
        learning_rate=0.5,
        evaluations=1,
        device="cpu",
    )
    train(
        plan,
        DATA if canaries is None else canaries.apply(DATA),
        module(),
        settings,
        out=path,
        before_training=None if canaries is None else canaries.save,
        progress=False,
    )
    return path


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without noise, for as long as it takes to learn its records by heart."""
    path = tmp_path_factory.mktemp("leaky") / "run"
    return trained(path, PRESETS["non-private"].plan(100), plan_canaries(DATA, CANARIES))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with noise."""
    path = tmp_path_factory.mktemp("honest") / "run"
    return trained(path, PRESETS["dpsgd"].plan(30), plan_canaries(DATA, CANARIES))


@pytest.fixture
def copy(leaky: Path, tmp_path: Path) -> RunFolder:
    """A copy of the run without noise, as training left it, to be tampered with."""
    reports = shutil.ignore_patterns("report.json", "report.html")
    return RunFolder(Path(shutil.copytree(leaky, tmp_path / "copy", ignore=reports)))


def audited(path: Path, data: Data | None = DATA, claim: float | None = 0.1) -> ModelAudit:
    return audit_model(path, data, claim_epsilon=claim, model=module())


def test_the_statement_tells_of_the_canaries(honest: Path) -> None:
    text = (honest / "public" / "STATEMENT.txt").read_text()
    assert f"Canaries: {CANARIES} of the kind mislabelled were planted" in text


def test_a_run_without_noise_contradicts_a_claim_of_a_tenth(leaky: Path) -> None:
    """About 185 of 200 guesses are right, and 125 are enough for the verdict."""
    audit = audited(leaky)
    report = audit.report
    assert report.verdict is Verdict.CONTRADICTED
    assert report.p_value is not None and report.p_value < 0.01
    assert report.lower_bound is not None and report.lower_bound > 1.0
    assert audit.best is not None and audit.best.correct > 0.8 * audit.best.guesses


def test_an_honest_run_is_not_contradicted_at_its_own_epsilon(honest: Path) -> None:
    """A true claim is contradicted in at most 5% of runs; here the claim is far above the leak."""
    audit = audited(honest, claim=None)
    own = RunFolder(honest).summary()["epsilon"]
    assert audit.report.verdict is Verdict.NOT_CONTRADICTED
    assert audit.report.claim_epsilon == own
    exact = f"the run's own, exactly ε = {audit.report.claim_epsilon!r}"
    assert ("claim", exact) in audit.report.checks


def test_another_claim_than_the_runs_own_is_reported_as_such(honest: Path, leaky: Path) -> None:
    for path in (honest, leaky):
        checks = dict(audited(path, claim=25.0).report.checks)
        assert checks["claim"].startswith("given for this audit; the run's own is")


def test_the_report_is_private_and_plain(copy: RunFolder) -> None:
    public = sorted(copy.public.iterdir())
    audit = audited(copy.path)
    report = json.loads(
        (copy.private / "report.json").read_text(), parse_constant=lambda c: pytest.fail(c)
    )
    assert report["verdict"] == "CONTRADICTED" and report["exit_status"] == 1
    assert report == json.loads(json.dumps(audit.to_json()))
    assert report["canaries"] == CANARIES and len(report["grid"]) == 12
    for name in ("report.json", "report.html"):
        assert stat.S_IMODE((copy.private / name).stat().st_mode) == 0o600
    assert (copy.private / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(copy.public.iterdir()) == public


def test_the_audit_is_a_function_of_what_is_stored(leaky: Path) -> None:
    assert audited(leaky).to_json() == audited(leaky).to_json()


def flip_a_coin(folder: RunFolder) -> None:
    path = folder.private / "audit-plan.json"
    plan = json.loads(path.read_text())
    plan["coins"][0] = 1 - plan["coins"][0]
    path.write_text(json.dumps(plan))


def plan_again(folder: RunFolder) -> None:
    """A new plan with a commitment of its own, as if training had been told of it."""
    for path in (folder.private / "audit-plan.json", folder.private / "times.jsonl"):
        path.unlink()
    (folder.public / "ledger.jsonl").unlink()
    plan_canaries(DATA, CANARIES).save(folder)
    journal = folder.private / "times.jsonl"
    journal.write_text('{"step": 0, "seconds": 0.01}\n' + journal.read_text())


def scramble_the_journal(folder: RunFolder) -> None:
    (folder.private / "times.jsonl").write_bytes(b"\xff\xfe\x00")


def lose_the_plan(folder: RunFolder) -> None:
    (folder.private / "audit-plan.json").unlink()


def lose_the_commitment(folder: RunFolder) -> None:
    (folder.public / "audit-commitment.json").unlink()


def break_the_weights(folder: RunFolder) -> None:
    path = folder.public / "model.safetensors"
    weights = {name: torch.full_like(w, torch.nan) for name, w in load_file(path).items()}
    save_file(weights, path)


def claim_another_adjacency(folder: RunFolder) -> None:
    folder.write_json("summary.json", folder.summary() | {"adjacency": "replace-one"})


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (flip_a_coin, "not the one that was committed to"),
        (plan_again, "made before training"),
        (scramble_the_journal, "made before training"),
        (lose_the_plan, "Train a run with canaries"),
        (lose_the_commitment, "not the one that was committed to"),
        (break_the_weights, "not numbers"),
        (claim_another_adjacency, "replace-one neighbours"),
    ],
)
def test_evidence_that_supports_no_verdict_gives_none(
    copy: RunFolder, damage: Callable[[RunFolder], None], why: str
) -> None:
    assert audited(copy.path).report.verdict is Verdict.CONTRADICTED
    damage(copy)
    audit = audited(copy.path)
    assert audit.report.verdict is Verdict.INVALID_AUDIT
    assert why in audit.report.sentence
    assert audit.report.p_value is None and audit.test is None
    assert json.loads((copy.private / "report.json").read_text())["exit_status"] == 3
    assert "INVALID AUDIT" in (copy.private / "report.html").read_text()


@pytest.mark.parametrize("order", [torch.arange(RECORDS).flip(0), torch.randperm(RECORDS)])
def test_reordered_or_swapped_data_are_refused(leaky: Path, order: torch.Tensor) -> None:
    x, y = DATA.train_x[order], DATA.train_y[order]
    for changed in (
        dataclasses.replace(DATA, train=Tensors(x, y)),
        dataclasses.replace(DATA, train=DATA.test),
    ):
        report = audited(leaky, changed).report
        assert report.verdict is Verdict.INVALID_AUDIT
        assert "does not match the fingerprints" in report.sentence
        assert report.checks[0][0] == "commitment"  # what held is still said


def test_coins_that_are_no_coins_give_no_verdict(tmp_path: Path) -> None:
    """All heads, properly committed to: the guesses would all be right for nothing."""
    plan = dataclasses.replace(plan_canaries(DATA, CANARIES), coins=(1,) * CANARIES)
    run = trained(tmp_path / "run", PRESETS["non-private"].plan(1), plan)
    report = audited(run).report
    assert report.verdict is Verdict.INVALID_AUDIT and "no fair coins" in report.sentence


def test_what_the_user_can_mend_is_an_error_and_not_a_verdict(
    copy: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"claims no ε.*`claim_epsilon`"):
        audited(copy.path, claim=None)
    with pytest.raises(DataError, match="ε"):
        audited(copy.path, claim=-1.0)
    with pytest.raises(DataError, match="unknown data set"):
        audited(copy.path, data=None)
    with pytest.raises(RunError, match="no run folder"):
        audited(tmp_path / "nothing")
    (copy.public / "summary.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        audited(copy.path)
    assert not (copy.private / "report.json").exists()


def test_the_margin_is_the_log_odds_of_the_label() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 6, generator=draw, dtype=torch.float64)
    labels = torch.randint(6, (50,), generator=draw)
    p = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(margin(logits, labels), (p / (1 - p)).log())
    sure = torch.tensor([[1000.0, 0.0, 0.0]], dtype=torch.float64)  # where p rounds to 1
    expected = torch.tensor([1000.0 - torch.log(torch.tensor(2.0)).item()], dtype=torch.float64)
    torch.testing.assert_close(margin(sure, torch.tensor([0])), expected)
