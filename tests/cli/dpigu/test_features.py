"""Runs on features, from their presets to their audit; presets stand below what the user says."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpigu.audits import audit_model
from dpigu.audits.verdict import Verdict
from dpigu.dpcore import ConfigurationError, DataError
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Recipe, build_model, load_run, recipe_for, recipe_from_file
from dpigu.trainers.data import SPECS
from dpigu.trainers.data.features.registry import cache_folder, feature_spec
from dpigu.trainers.models.registry import TemperedSigmoid
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.load import load_run_data

from tests.support.dpigu_command import dpigu, dpigu_json, one_line

METHODS = ("dpsgd-hf", "dpsgd-hf-cnn", "dpsgd-hf-channels", "dpsgd-ts")
CHEAP = ("--accountant", "rdp", "--quiet")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache folder of these tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a phase of moments, and canaries among its records."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ("--data", "digits", "--steps", 40, "--canaries", 60, "--out", out, *CHEAP)
    result = dpigu("train", "--preset", "dpsgd-hf-channels", *options)
    assert result.exit_code == 0, result.stderr
    return out


def test_a_run_on_features_comes_back_from_its_folder(run: Path) -> None:
    table = tomllib.loads((run / "public" / "config.toml").read_text())
    assert table["data"]["features"] == "scattering"
    assert table["data"]["shape"] == [81, 2, 2]
    loaded = load_run(run)
    buffers = dict(loaded.model.named_buffers())
    assert not torch.equal(buffers["norm.mean"], torch.zeros(81))
    data = load_run_data(RunFolder.existing(run))
    right = (loaded.model(data.test_x).argmax(1) == data.test_y).double().mean().item()
    assert right == pytest.approx(loaded.summary["test_accuracy"])
    assert right > 0.6


def test_its_canaries_join_and_give_a_verdict(run: Path) -> None:
    report = audit_model(run).report
    assert report.verdict is not Verdict.INVALID_AUDIT
    assert any(name == "fingerprints" for name, _ in report.checks)


def test_its_configuration_runs_again_on_the_same_features(run: Path, tmp_path: Path) -> None:
    kept = {path.name: path.stat().st_mtime_ns for path in cache_folder().iterdir()}
    again = ("--config", run / "public" / "config.toml", "--steps", 4, "--out", tmp_path / "again")
    result = dpigu("train", *again, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert {path.name: path.stat().st_mtime_ns for path in cache_folder().iterdir()} == kept
    assert load_run(tmp_path / "again").summary["model"] == "scattering-linear-channels"


def test_a_finished_run_on_features_can_be_resumed(run: Path) -> None:
    before = load_run(run).summary["steps"]
    result = dpigu("train", "--resume", "--out", run, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert load_run(run).summary["steps"] == before == 40


def test_describing_computes_no_feature(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table = dpigu_json("describe", "dpsgd-hf", "--noise-multiplier", 1)
    assert table["coordinates"] == 10 * (81 * 49 + 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", SPECS)
@pytest.mark.parametrize("preset", METHODS)
def test_every_method_has_a_recipe_for_every_data_set(preset: str, data: str) -> None:
    recipe = recipe_for(preset, data)
    assert recipe.plan.private
    assert recipe.features == PRESETS[preset].training.get("features")
    assert recipe.model == PRESETS[preset].training["model"]
    recipe.settings.sampler(SPECS[data].records)


@pytest.mark.parametrize("data", SPECS)
def test_tempered_is_the_datas_own_net_with_tempered_sigmoids(data: str) -> None:
    model = build_model("tempered", SPECS[data], seed=0)
    kinds = [type(module) for module in model.modules()]
    assert TemperedSigmoid in kinds and torch.nn.ReLU not in kinds


def test_what_the_user_says_stands_above_the_preset() -> None:
    said = recipe_for("dpsgd-hf", "digits", model="mlp", steps=7, learning_rate=0.123, clip=0.7)
    assert (said.features, said.model) == ("scattering", "mlp")
    assert said.settings.learning_rate == 0.123
    assert said.plan.steps == 7
    assert said.plan.phases[0].pipeline.clipper.joint_bound({}).item() == 0.7


def bounds(recipe: Recipe) -> list[float]:
    return [p.pipeline.clipper.joint_bound({}).item() for p in recipe.plan.phases]


def test_a_clipping_norm_is_that_of_the_phases_that_train() -> None:
    own = bounds(recipe_for("dpsgd-hf-channels", "digits"))
    assert bounds(recipe_for("dpsgd-hf-channels", "digits", clip=0.7)) == [own[0], 0.7]


def test_public_records_go_through_the_same_features(cache: None) -> None:
    spec = feature_spec(SPECS["digits"], "scattering")
    recipe = recipe_for("dpsgd-hf", "a.npz", records=9, classes=10, public="digits")
    public = recipe.load_public(spec)
    same = recipe_for("dpsgd-hf", "digits").load_data()
    assert public is not None and torch.equal(public.train_x, same.train_x)
    assert recipe.labels(spec)["public"] == "digits"
    assert recipe_for("dpsgd-hf", "digits").load_public(spec) is None


@pytest.mark.parametrize(
    ("data", "public"), [("digits", "digits"), ("a.npz", "a.npz"), ("a.npz", "./b/../a.npz")]
)
def test_private_records_are_never_the_public_ones_too(data: str, public: str) -> None:
    """A subspace of their gradients would be learnt from them without noise or charge."""
    declared = {} if data == "digits" else {"records": 9, "classes": 10}
    recipe = recipe_for("gep-public", data, public=public, **declared)
    with pytest.raises(ConfigurationError, match="nothing would protect them"):
        recipe.load_public(SPECS["digits"])


def test_public_data_that_nobody_has_is_told_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match="no public data of that name") as caught:
        recipe_for("gep-public", "digits", public="nope").load_public(SPECS["digits"])
    assert str(caught.value).startswith("public: ") and "procedural, digits" in str(caught.value)


def test_a_configuration_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"c\.toml: cannot be read: No such file"
    ) as caught:
        recipe_from_file(tmp_path / "c.toml")
    assert "TOML:" not in str(caught.value) and "Errno" not in str(caught.value)


@pytest.mark.parametrize("before", ["", "main."])
@pytest.mark.parametrize("stage", ["selective_update.decision", "selective_update.threshold"])
def test_a_selective_update_is_changed_by_its_own_name(before: str, stage: str) -> None:
    own = recipe_for("dpsur", "digits").plan.phases[0]
    (phase,) = recipe_for(
        "dpsur", "digits", assignments=[f"{before}{stage}.below=0.25"]
    ).plan.phases
    assert own.selective_update is not None and phase.selective_update is not None
    assert phase.selective_update == replace(
        own.selective_update, decision=replace(own.selective_update.decision, below=0.25)
    )
    assert phase.pipeline == own.pipeline


def test_the_clipping_norm_of_an_update_leaves_its_selection_alone() -> None:
    own = recipe_for("dpsur", "digits").plan.phases[0]
    (phase,) = recipe_for("dpsur", "digits", clip=0.7, assignments=["flat.bound=0.6"]).plan.phases
    assert (
        phase.selective_update == own.selective_update
        and phase.pipeline.clipper.joint_bound({}).item() == 0.6
    )
    with pytest.raises(ConfigurationError, match=r"no such stage.*selective_update\.threshold"):
        recipe_for("dpsur", "digits", assignments=["threshold.below=0.25"])


def saved(path: Path, side: int = 8, **changes: Any) -> str:
    x, y = np.zeros((12, 1, side, side), np.float32), np.arange(12) % 10
    np.savez(path, **{"x": x, "y": y} | changes)
    return str(path)


def test_public_records_of_a_file_are_counted_and_must_fit(tmp_path: Path) -> None:
    """x and y are enough: nothing is measured on public records, so none are held out."""
    fits = recipe_for("dpsgd", "digits", public=saved(tmp_path / "fits.npz"))
    public = fits.load_public(SPECS["digits"])
    assert public is not None and public.spec.records == len(public.train_x) == 12
    assert len(public.test_x) == len(public.test_y) == 0
    small = recipe_for("dpsgd", "digits", public=saved(tmp_path / "not.npz", 4))
    with pytest.raises(DataError, match="do not fit") as caught:
        small.load_public(SPECS["digits"])
    assert "(1, 8, 8)" in str(caught.value) and "(1, 4, 4)" in str(caught.value)


def test_public_records_of_a_file_go_through_features(cache: None, tmp_path: Path) -> None:
    path = saved(tmp_path / "public.npz")
    recipe = recipe_for("dpsgd-hf", "digits", public=path)
    public = recipe.load_public(feature_spec(SPECS["digits"], "scattering"), progress=False)
    assert public is not None and public.train_x.shape == (12, 81, 2, 2)
    assert public.test_x.shape == (0, 81, 2, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y": np.full(12, 10)}, "label lies outside 0…9"),
        ({"y": np.zeros(11, int)}, "the numbers of inputs and labels differ"),
        ({"x": np.zeros((0, 1, 8, 8), np.float32), "y": np.zeros(0, int)}, "there is no record"),
        ({"x": np.float32(1)}, "the shape of a record is wrong"),
        ({"x": None}, "not an npz file of plain arrays"),
    ],
)
def test_public_records_of_a_file_are_checked(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    recipe = recipe_for("dpsgd", "digits", public=saved(tmp_path / "public.npz", **changes))
    with pytest.raises(DataError, match=words):
        recipe.load_public(SPECS["digits"])


def test_a_public_file_without_labels_is_told_what_to_save(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 8, 8), np.float32))
    with pytest.raises(DataError, match="the public records or their labels are missing") as caught:
        recipe_for("dpsgd", "digits", public=str(tmp_path / "x.npz")).load_public(SPECS["digits"])
    assert "numpy.savez(path, x=x, y=y)" in str(caught.value)


def test_features_that_nobody_has_are_refused() -> None:
    options = ("--data", "digits", "--features", "scatter", "--noise-multiplier", 1)
    result = dpigu("describe", "dpsgd", *options)
    assert "there is no feature map of that name" in one_line(result)
    with pytest.raises(ConfigurationError, match="feature map"):
        recipe_for("dpsgd", "digits", features="scatter").load_data()
