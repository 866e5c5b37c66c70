"""A run that starts from weights which somebody declared public says which, from where and who."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from dpigu.dpcore import DataError, Phase, Pipeline, Plan, RunError
from dpigu.mechanisms import Flat, Gaussian, NamedLayers
from dpigu.trainers import public_weights, resume, train
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.explanation import explanation
from torch import nn

from tests.laws.noise.test_noise import StopAt
from tests.support.laws.data import points, settings_of

WORDS = {"name": "a net", "source": "a program's images", "declared_by": "the owner"}


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))


def head_then_all(steps: int = 3) -> Plan:
    """DP-RandP's last two phases."""
    plain = {"clipper": Flat(bound=1.0), "noiser": Gaussian(noise_multiplier=2.0)}
    return Plan(
        (
            Phase("head", Pipeline(scheduler=NamedLayers(), **plain), steps),
            Phase("all", Pipeline(**plain), steps, inherits=("weights",)),
        )
    )


def test_statement_and_explanation_name_them_also_after_a_resume(tmp_path: Path) -> None:
    model = net()
    told = public_weights(model, **WORDS)
    with pytest.raises(KeyboardInterrupt):
        train(
            head_then_all(),
            points(),
            model,
            settings_of(),
            observer=StopAt(2),
            out=tmp_path / "run",
            progress=False,
        )
    done = resume(tmp_path / "run", data=points(), model=model, progress=False)
    text = (RunFolder(tmp_path / "run").public / "STATEMENT.txt").read_text()
    explained = " ".join(explanation(done.summary)["What was not promised"])
    assert done.summary["weights"] == told.to_dict() == {**WORDS, "sha256": told.sha256}
    for said in (*WORDS.values(), told.sha256):
        assert said in text and said in explained


def test_the_head_trains_first_and_then_everything() -> None:
    model, start = net(), net()
    train(head_then_all(), points(), model, settings_of(), progress=False)
    assert not torch.equal(model[0].weight, start[0].weight)
    model = net()
    train(Plan(head_then_all().phases[:1]), points(), model, settings_of(), progress=False)
    assert torch.equal(model[0].weight, start[0].weight)
    assert not torch.equal(model[2].weight, start[2].weight)


def test_the_checksum_is_that_of_the_weights_or_of_their_file(tmp_path: Path) -> None:
    one, same, other = net(), net(), net()
    with torch.no_grad():
        other[0].bias[0] += 1
    found = [public_weights(model, **WORDS).sha256 for model in (one, same, other)]
    assert found[0] == found[1] != found[2]
    path = tmp_path / "weights"
    path.write_bytes(b"as published")
    named = public_weights(one, **WORDS, file=path)
    assert named.sha256 == hashlib.sha256(b"as published").hexdigest()


def test_what_is_not_so_is_refused(tmp_path: Path) -> None:
    model = net()
    public_weights(model, **WORDS)
    with torch.no_grad():
        model[0].bias[0] += 1
    with pytest.raises(RunError, match="changed since they were declared public"):
        train(head_then_all(), points(), model, settings_of(), progress=False)
    with pytest.raises(DataError, match="says this in words"):
        public_weights(net(), **{**WORDS, "declared_by": " "})
    with pytest.raises(DataError, match="cannot be read"):
        public_weights(net(), **WORDS, file=tmp_path / "none")
    trained = train(head_then_all(), points(), net(), settings_of(), progress=False)
    with pytest.raises(RunError, match="come from a run on records that it protects"):
        public_weights(trained.model, **WORDS)


def test_layers_that_changed_places_are_not_what_was_declared() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    public_weights(model, **WORDS)
    model[0], model[2] = model[2], model[0]
    with pytest.raises(RunError, match="changed since they were declared public"):
        train(head_then_all(), points(), model, settings_of(), progress=False)
