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
from safetensors.torch import save_file
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


def test_the_checksum_tells_weights_apart() -> None:
    one, same, other = net(), net(), net()
    with torch.no_grad():
        other[0].bias[0] += 1
    found = [public_weights(model, **WORDS).sha256 for model in (one, same, other)]
    assert found[0] == found[1] != found[2]


def written(model: nn.Module, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_weights_of_a_file_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    """A model that has grown a head is still the file's; one whose weights have moved is not."""
    path = written(net(), tmp_path / name)
    model = net().append(nn.Linear(2, 5))
    published = hashlib.sha256(path.read_bytes()).hexdigest()
    assert public_weights(model, **WORDS, file=path, sha256=published.upper()).sha256 == published
    with torch.no_grad():
        model[2].weight[1, 1] += 2.0**-20
    for other in (model, nn.Linear(2, 3)):
        with pytest.raises(DataError, match=r"not those of the file.*SHA-256.*leave `file` out"):
            public_weights(other, **WORDS, file=path)


def test_a_checksum_is_the_one_that_was_published(tmp_path: Path) -> None:
    model = net()
    found = public_weights(model, **WORDS).sha256
    assert public_weights(model, **WORDS, sha256=found).sha256 == found
    path = written(model, tmp_path / "weights.pt")
    with pytest.raises(DataError, match="not the one that was published") as refused:
        public_weights(model, **WORDS, file=path, sha256=found)
    assert refused.value.got == hashlib.sha256(path.read_bytes()).hexdigest()
    assert refused.value.expected == found


def test_one_tensor_that_is_alike_by_chance_is_not_the_file(tmp_path: Path) -> None:
    """A counter that is 0 in both is none of the weights that were published; half precision is."""
    model, path = nn.BatchNorm1d(3), tmp_path / "weights.pt"
    torch.save({"encoder.weight": torch.ones(3), **model.half().state_dict()}, path)
    with pytest.raises(DataError, match=r"5 of the file's 6 tensors"):
        public_weights(model.float(), **WORDS, file=path)
    torch.save(model.half().state_dict(), path)
    public_weights(model.float(), **WORDS, file=path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    for name in ("weights", "weights.safetensors"):
        path = tmp_path / name
        path.write_bytes(b"as published")
        with pytest.raises(DataError, match="no file of weights"):
            public_weights(net(), **WORDS, file=path)


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
