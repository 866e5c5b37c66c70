"""Shadow models: fair halves, a cache that is what it says, and workers that end."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from dpigu.audits import EvidenceError, auc, audit_model, estimate_membership, plan_canaries
from dpigu.audits.membership.report import Membership
from dpigu.audits.membership.shadows import Job, shadow_table, train_shadow
from dpigu.audits.statistics.one_run import Reals
from dpigu.dpcore import DataError, DpiguError
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Data, DataSpec, Settings, Tensors, train
from dpigu.trainers.data import Scaling
from dpigu.trainers.runs import RunFolder
from torch import nn

RECORDS, WIDTH, CLASSES, STEPS = 120, 300, 4, 15


def noise(seed: int = 3) -> Data:
    """Labels that nothing tells: whatever is known of them was learnt by heart."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * RECORDS, WIDTH, generator=draw)
    y = torch.randint(CLASSES, (2 * RECORDS,), generator=draw)
    spec = DataSpec("noise", RECORDS, CLASSES, (WIDTH,), Scaling())
    return Data(spec, Tensors(x[:RECORDS], y[:RECORDS]), Tensors(x[RECORDS:], y[RECORDS:]))


DATA = noise()


def module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(WIDTH, CLASSES)


def trained(path: Path, canaries: int = 0, kind: str = "records") -> RunFolder:
    settings = Settings(rate=0.5, learning_rate=0.5, evaluations=1, device="cpu", accountant="rdp")
    plan = plan_canaries(DATA, canaries, kind) if canaries else None
    train(
        PRESETS["non-private"].plan(STEPS),
        plan.apply(DATA) if plan is not None else DATA,
        module(),
        settings,
        out=path,
        before_training=plan.save if plan is not None else None,
        labels={"data": "noise", "model": "linear"},
        progress=False,
    )
    return RunFolder(path)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("once") / "run").path


@pytest.fixture
def run(once: Path, tmp_path: Path) -> RunFolder:
    """A run of its own for each test, as training left it."""
    return RunFolder(Path(shutil.copytree(once, tmp_path / "run")))


Done = list[int]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Done:
    """Workers stand aside: tasks run here. Gives the list of those that ran."""
    done: Done = []

    def here(
        work: Callable[[int], Reals], tasks: Sequence[int], workers: int, log: Path
    ) -> Iterator[tuple[int, Reals]]:
        for task in tasks:
            result = work(task)
            done.append(task)
            yield task, result

    monkeypatch.setattr("dpigu.audits.membership.shadows.spread", here)
    return done


def by_coins(job: Job, shadow: int) -> Reals:
    """A training that its coins determine."""
    return np.cos(np.arange(len(job.y)) * (shadow + 1)) + 2.0 * job.coins_SN[shadow]


@pytest.fixture
def untrained(in_process: Done, monkeypatch: pytest.MonkeyPatch) -> Done:
    """The same, and no shadow trains at all: for what the cache alone decides."""
    monkeypatch.setattr("dpigu.audits.membership.shadows.train_shadow", by_coins)
    return in_process


def found(run: RunFolder, shadows: int = 4, data: Data = DATA) -> Membership:
    return estimate_membership(run.path, shadows, data=data, model=module())


def pool_of(data: Data = DATA) -> Data:
    x, y = torch.cat([data.train_x, data.test_x]), torch.cat([data.train_y, data.test_y])
    return Data(data.spec, Tensors(x, y), Tensors(x[:1], y[:1]))


def test_each_record_is_in_half_of_the_shadows_and_each_shadow_has_learnt_its_half(
    run: RunFolder, in_process: Done
) -> None:
    """Labels are noise: each shadow is surer of what it saw, at an AUC near 1 and never 0.8."""
    phi_SN, in_SN = shadow_table(run, pool_of(), 6)
    assert phi_SN.shape == in_SN.shape == (6, 2 * RECORDS)
    assert (in_SN.sum(0) == 3).all()
    assert len({row.tobytes() for row in in_SN}) == 6
    assert all(row.sum() == RECORDS for row in in_SN)
    for phi_N, in_N in zip(phi_SN, in_SN, strict=True):
        assert auc(phi_N[in_N], phi_N[~in_N]).value > 0.8


def test_attacks_find_who_was_learnt_by_heart(run: RunFolder, in_process: Done) -> None:
    """Labels are noise, so members stand out: every AUC is near 1, and blind is 0.5."""
    membership = found(run)
    assert list(membership.scores) == ["loss", "lira-offline", "lira-online", "rmia"]
    assert membership.member_N.sum() == RECORDS == (~membership.member_N).sum()
    for attack in membership.to_json()["attacks"]:
        assert attack["auc"]["low"] > 0.8, attack["name"]


def test_without_shadows_the_loss_stands_alone(run: RunFolder, in_process: Done) -> None:
    membership = found(run, 0)
    assert list(membership.scores) == ["loss"] and in_process == []
    assert not (run.private / "shadows").exists()


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_table_goes_on_to_be_the_same(
    run: RunFolder, in_process: Done, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Interrupted after so many shadows: these are not trained again, and nothing else differs."""
    pool = pool_of()

    def fails(job: Job, shadow: int) -> Reals:
        if shadow == after:
            raise KeyboardInterrupt
        return by_coins(job, shadow)

    monkeypatch.setattr("dpigu.audits.membership.shadows.train_shadow", fails)
    with pytest.raises(KeyboardInterrupt):
        shadow_table(run, pool, 4)
    monkeypatch.setattr("dpigu.audits.membership.shadows.train_shadow", by_coins)
    in_process.clear()
    phi_SN, in_SN = shadow_table(run, pool, 4)
    assert in_process == list(range(after, 4))
    for path in (run.private / "shadows").glob("shadow-*.npz"):
        path.unlink()
    again_SN, same_SN = shadow_table(run, pool, 4)  # the same coins, without an interruption
    np.testing.assert_array_equal(phi_SN, again_SN)
    np.testing.assert_array_equal(in_SN, same_SN)


def test_what_is_cached_is_not_trained_again_and_gives_the_same(
    run: RunFolder, in_process: Done
) -> None:
    first = found(run).to_json()
    in_process.clear()
    assert found(run).to_json() == first
    assert in_process == []


def test_more_shadows_keep_those_there_and_fewer_take_the_first(
    run: RunFolder, untrained: Done
) -> None:
    phi_SN, in_SN = shadow_table(run, pool_of(), 4)
    untrained.clear()
    more_SN, more_in_SN = shadow_table(run, pool_of(), 8)
    assert untrained == [4, 5, 6, 7]
    np.testing.assert_array_equal(more_SN[:4], phi_SN)
    np.testing.assert_array_equal(more_in_SN[:4], in_SN)
    np.testing.assert_array_equal(shadow_table(run, pool_of(), 4)[0], phi_SN)


def other_recipe(run: RunFolder) -> Data:
    path = run.public / "config.toml"
    path.write_text(path.read_text().replace("learning_rate = 0.5", "learning_rate = 0.25"))
    return DATA


def other_data(run: RunFolder) -> Data:
    return noise(seed=4)


def exchanged(run: RunFolder) -> Data:
    one, other = (run.private / "shadows" / f"shadow-000{s}.npz" for s in (0, 1))
    one.write_bytes(other.read_bytes())
    return DATA


def other_coins(run: RunFolder) -> Data:
    path = run.private / "shadows" / "coins.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **(arrays | {"pairs": ~arrays["pairs"]}))
    return DATA


def damaged(run: RunFolder) -> Data:
    (run.private / "shadows" / "shadow-0002.npz").write_bytes(b"PK")
    return DATA


@pytest.mark.parametrize("change", [other_recipe, other_data, exchanged, other_coins, damaged])
def test_a_cache_of_something_else_is_refused(
    run: RunFolder, untrained: Done, change: Callable[[RunFolder], Data]
) -> None:
    found(run)
    data = change(run)
    with pytest.raises(
        DpiguError, match=r"other recipe|another recipe|npz file|changed after the run began"
    ):
        found(run, data=data)


@pytest.mark.parametrize("shadows", [-2, 1, 2, 5])
def test_shadows_that_no_attack_can_use_are_refused(run: RunFolder, shadows: int) -> None:
    with pytest.raises(DataError, match="in pairs"):
        found(run, shadows)


def test_everything_cached_is_private(run: RunFolder, untrained: Done) -> None:
    public = {path: path.stat().st_mtime_ns for path in run.public.rglob("*")}
    found(run)
    folder = run.private / "shadows"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {path: path.stat().st_mtime_ns for path in run.public.rglob("*")} == public


def test_shadows_start_where_the_run_started_and_not_from_its_weights(
    run: RunFolder, in_process: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audited weights are loaded into the module given: shadows must have a copy of before."""
    starts: list[nn.Module] = []

    def seen(job: Job, shadow: int) -> Reals:
        assert job.module is not None
        starts.append(job.module)
        return train_shadow(job, shadow)

    monkeypatch.setattr("dpigu.audits.membership.shadows.train_shadow", seen)
    given, before = module(), module().state_dict()
    estimate_membership(run.path, 4, data=DATA, model=given)
    assert not torch.equal(given.state_dict()["weight"], before["weight"])
    assert len(starts) == 4
    for start in starts:
        assert torch.equal(start.state_dict()["weight"], before["weight"])


@pytest.mark.parametrize(("kind", "left"), [("records", 90), ("gradient", 120)])
def test_canaries_are_left_to_their_coins(tmp_path: Path, kind: str, left: int) -> None:
    run = trained(tmp_path / "run", 0 if kind == "gradient" else 30, kind)
    if kind == "gradient":  # these need noise: only their plan matters here
        (run.private / "times.jsonl").unlink()
        paid = (run.public / "ledger.jsonl").read_bytes()
        (run.public / "ledger.jsonl").unlink()
        plan_canaries(DATA, 30, kind).save(run)
        (run.public / "ledger.jsonl").write_bytes(paid)
    membership = found(run, 0)
    assert (int(membership.member_N.sum()), len(membership.member_N)) == (left, 2 * left)
    with pytest.raises(EvidenceError, match="does not match the fingerprints"):
        found(run, 0, data=other_data(run))


def test_no_membership_inference_reaches_a_verdict(tmp_path: Path) -> None:
    """A near perfect attack beside it changes nothing of an audit but what stands beside."""
    for canaries in (0, 30):
        run = trained(tmp_path / f"run{canaries}", canaries)
        audit = audit_model(run.path, DATA, claim_epsilon=25.0, model=module())
        whole = audit.beside(found(run, 0))
        assert whole.report is audit.report and whole.report.exit_status in (0, 3)
        before, after = audit.to_json(), whole.to_json()
        assert {key for key in after if after[key] != before[key]} == {"membership", "reproduce"}
        assert min(a["auc"]["low"] for a in after["membership"]["attacks"]) > 0.7
        assert not {"p_value", "lower_bound", "verdict"} & set(after["membership"])
