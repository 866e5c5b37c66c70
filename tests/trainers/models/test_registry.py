"""The named models are the ones the paper counts, and building them touches nothing else."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch
from dpigu.dpcore.errors import ModelError
from dpigu.trainers.data import SPECS, DataSpec, Scaling
from dpigu.trainers.data.features.registry import feature_spec
from dpigu.trainers.models.mixing import refuse_mixing_modules
from dpigu.trainers.models.registry import (
    MODELS,
    TemperedSigmoid,
    build_model,
    default_model,
    digits_cnn,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

TABLE = DataSpec("table", 100, 3, (5,), Scaling())


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def fitting(name: str) -> list[DataSpec]:
    """The specs that a named model is made for."""
    if name.startswith(("mlp", "linear")):
        return [*SPECS.values(), TABLE]
    if name == "tempered":
        return list(SPECS.values())
    if name.startswith("scattering"):
        return [feature_spec(spec, "scattering") for spec in SPECS.values()]
    if name == "centred-linear":
        return [feature_spec(spec, "even-scattering") for spec in SPECS.values()]
    if name.startswith("wrn"):
        return [SPECS["digits"], SPECS["cifar10"]]
    family = name.removesuffix("-tanh")
    return [s for s in SPECS.values() if family == default_model(s).removesuffix("-tanh")]


@pytest.mark.parametrize(
    ("name", "data", "count"),
    [
        ("paper-mnist-cnn", "mnist", 26_010),
        ("paper-mnist-cnn-tanh", "fashion-mnist", 26_010),
        ("paper-cifar-cnn", "cifar10", 74_362),
        ("digits-cnn", "digits", 16 * 9 + 16 + 256 * 10 + 10),
        ("linear", "mnist", 784 * 10 + 10),
        ("mlp", "digits", 64 * 128 + 128 + 128 * 10 + 10),
    ],
)
def test_parameter_counts(name: str, data: str, count: int) -> None:
    """26,010 is the count of the paper's released code; the others follow from their layers."""
    assert parameters(build_model(name, SPECS[data], seed=0)) == count


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_one_finite_score_a_class_and_record_and_trains(name: str) -> None:
    assert fitting(name)
    for spec in fitting(name):
        model = build_model(name, spec, seed=0)
        refuse_mixing_modules(model)
        scores = model(torch.randn(2, *spec.shape))
        assert scores.shape == (2, spec.classes) and scores.isfinite().all()
        scores.square().sum().backward()
        assert all(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_record_is_scored_alone(name: str) -> None:
    spec = fitting(name)[0]
    model = build_model(name, spec, seed=0).double()
    x = torch.randn(4, *spec.shape, dtype=torch.float64)
    alone = torch.cat([model(record[None]) for record in x])
    assert torch.allclose(model(x), alone, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("-tanh")])
def test_a_tempered_version_differs_in_its_activation_only(name: str) -> None:
    spec = fitting(name)[0]
    plain = build_model(name.removesuffix("-tanh"), spec, seed=3)
    tempered = build_model(name, spec, seed=3)
    for a, b in zip(plain, tempered, strict=True):
        assert type(b) is (TemperedSigmoid if isinstance(a, nn.ReLU) else type(a))
    assert all(map(torch.equal, plain.state_dict().values(), tempered.state_dict().values()))


# Tempered sigmoids

POSITIVE = st.floats(0.1, 8)


@given(POSITIVE, POSITIVE, st.floats(-2, 2), st.floats(-30, 30))
def test_the_tempered_sigmoid_is_its_formula(s: float, t: float, o: float, x: float) -> None:
    """φ(x) = s·sigmoid(T·x) − o (arXiv 2007.14191)."""
    x_1 = torch.tensor([x], dtype=torch.float64)
    phi = TemperedSigmoid(scale=s, temperature=t, offset=o)(x_1)
    assert torch.allclose(phi, s * torch.sigmoid(t * x_1) - o, atol=1e-13 * (s + abs(o)))


@given(st.floats(-100, 100, width=32))
def test_the_tempered_sigmoid_is_tanh_by_default(x: float) -> None:
    x_1 = torch.tensor([x])
    assert torch.equal(TemperedSigmoid()(x_1), torch.tanh(x_1))


@pytest.mark.parametrize("option", ["scale", "temperature", "offset"])
def test_every_option_of_the_tempered_sigmoid_matters(option: str) -> None:
    half = torch.tensor([0.5])
    assert not torch.allclose(TemperedSigmoid(**{option: 1.5})(half), torch.tanh(half), atol=0.05)


def test_an_activation_is_an_argument() -> None:
    net = digits_cnn(SPECS["digits"], lambda: TemperedSigmoid(scale=1.5, offset=0.7))
    assert "TemperedSigmoid(scale=1.5, temperature=2, offset=0.7)" in repr(net)


# Seeds


def states() -> tuple[object, ...]:
    return torch.random.get_rng_state().tolist(), random.getstate()


def test_a_seed_gives_the_same_model_and_leaves_the_global_generator_alone() -> None:
    before = states()
    a, b, other = (build_model("digits-cnn", SPECS["digits"], seed) for seed in (7, 7, 8))
    assert states() == before
    torch.rand(5)
    again = build_model("digits-cnn", SPECS["digits"], 7)
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key])
        assert torch.equal(value, again.state_dict()[key])
        assert not torch.equal(value, other.state_dict()[key])


# Names and factories


def test_default_models() -> None:
    chosen = {name: default_model(spec) for name, spec in SPECS.items()}
    assert chosen == {
        "digits": "digits-cnn",
        "mnist": "paper-mnist-cnn-tanh",
        "fashion-mnist": "paper-mnist-cnn-tanh",
        "cifar10": "paper-cifar-cnn-tanh",
    }
    assert default_model(TABLE) == "mlp"


def test_an_unknown_model_is_met_with_the_nearest_known_one() -> None:
    with pytest.raises(ModelError, match=r"Did you mean paper-mnist-cnn\?"):
        build_model("paper-mnist-cn", SPECS["mnist"], 0)


def test_a_model_for_other_records_names_one_that_fits() -> None:
    with pytest.raises(ModelError, match=r"got \(3, 32, 32\), expected \(1, 28, 28\)") as error:
        build_model("paper-mnist-cnn", SPECS["cifar10"], 0)
    assert "Try the `model` paper-cifar-cnn" in str(error.value)


FACTORIES = """
import torch
from torch import nn

def plain():
    return nn.Linear(5, 3)

def both(shape, *, classes, bias=True):
    return nn.Linear(shape[0], classes, bias)

def rest(classes=2, **others):
    assert not others
    return nn.Linear(5, classes)

class Net(nn.Linear):
    def __init__(self, classes):
        super().__init__(5, classes)

def depth(depth):
    return nn.Linear(5, depth)

def number():
    return 3

constant = 3
"""


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    (tmp_path / "my_broken.py").write_text("import a_module_that_is_not_there\n")
    (tmp_path / "my_typo.py").write_text("def net(:\n")
    for name in ("my_factories", "my_broken", "my_typo"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize("factory", ["plain", "both", "rest", "Net"])
def test_a_factory_gets_the_arguments_it_names(working_folder: Path, factory: str) -> None:
    a, b = (build_model(f"my_factories:{factory}", TABLE, seed=1) for _ in range(2))
    assert a(torch.zeros(1, 5)).shape == (1, 3)
    assert torch.equal(a.weight, b.weight)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_factories:missing", "cannot be imported.*missing"),
        ("my_factories:", "cannot be imported"),
        (":plain", "cannot be imported"),
        (".relative:plain", "cannot be imported"),
        ("no_such_module:net", "cannot be imported.*no_such_module"),
        ("my_broken:net", "cannot be imported.*a_module_that_is_not_there"),
        ("my_typo:net", "cannot be imported.*invalid syntax"),
        ("my_factories:depth", "wants other arguments.*depth"),
        ("my_factories:number", "did not return a torch.nn.Module"),
        ("my_factories:constant", "not callable"),
    ],
)
def test_a_factory_that_does_not_work_is_one_line(
    working_folder: Path, name: str, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as error:
        build_model(name, TABLE, seed=0)
    assert "\n" not in str(error.value)
