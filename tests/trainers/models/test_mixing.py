"""Modules that mix records are refused with the line that mends them, and `fix` is that line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from dpigu.dpcore import ModelError
from dpigu.mechanisms import dpsgd
from dpigu.trainers import Settings, data_from, fix, train
from dpigu.trainers.models.mixing import Change, mixes, refuse_mixing_modules
from torch import Tensor, nn

from tests.support.dpigu_command import dpigu, dpigu_json, one_line

MIXING = [
    nn.BatchNorm1d(24),
    nn.BatchNorm2d(24),
    nn.BatchNorm3d(24),
    nn.BatchNorm2d(24, track_running_stats=False),
    nn.BatchNorm2d(24).eval(),
    nn.SyncBatchNorm(24),
    nn.InstanceNorm2d(24, track_running_stats=True),
]


class Net(nn.Module):
    """Every kind of module that mixes records, one of them in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 8, max_norm=1.0, scale_grad_by_freq=True)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3), self.first[1])
        self.each = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.flat = nn.BatchNorm1d(16)
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor, word: Tensor) -> Tensor:
        seen = self.each(self.second(self.first(x))).mean((-2, -1))
        found: Tensor = self.out(self.flat(torch.cat([seen, self.words(word)], dim=-1)))
        return found


def records(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 6, 6, generator=draw)
    return x, torch.randint(5, (count,), generator=draw)


@pytest.mark.parametrize("module", MIXING, ids=repr)
def test_a_mixing_module_is_refused_with_a_line_that_mends_it(module: nn.Module) -> None:
    import dpigu

    block = nn.Sequential(nn.Conv2d(3, 24, 1), nn.ModuleDict({"norm": module}))
    model = nn.ModuleDict({"block": block})
    with pytest.raises(ModelError, match=r"block\.1\.norm: it keeps statistics") as error:
        refuse_mixing_modules(model)
    line = error.value.remedy.rpartition("by GroupNorm: ")[2].rstrip(".")
    exec(line, {"model": model, "dpigu": dpigu})
    refuse_mixing_modules(model)
    assert isinstance(model.get_submodule("block.1.norm"), nn.GroupNorm)


def test_what_is_fixed_scores_a_record_as_if_it_were_alone() -> None:
    """Before, the others of the batch move its scores; after, nobody does, and nothing is kept."""
    model, (x, words) = Net().double(), records(6)
    x = x.double()

    def alone() -> Tensor:
        return torch.cat([model(x[i : i + 1], words[i : i + 1]) for i in range(1, 6)])

    assert not torch.allclose(model.first(x)[:2], model.first(x[:2]))
    changes = fix(model)
    assert torch.allclose(model(x, words)[1:], alone())
    assert not [m for m in model.modules() if mixes(m)] and not list(model.named_buffers())
    assert [change.path for change in changes] == ["words", "first.1", "second.1", "each", "flat"]
    assert model.first[1] is model.second[1]
    assert fix(model) == ()


def test_the_changes_are_lines_that_name_the_groups() -> None:
    told = [str(change) for change in fix(Net(), groups=4)]
    assert told == [
        "words: Embedding with max_norm=1.0, scale_grad_by_freq=True -> Embedding without",
        "first.1: BatchNorm2d(8) -> GroupNorm(4, 8)",
        "second.1: BatchNorm2d(8) -> GroupNorm(4, 8)",
        "each: InstanceNorm2d(8) -> GroupNorm(8, 8)",
        "flat: BatchNorm1d(16) -> GroupNorm(1, 16)",
    ]


@pytest.mark.parametrize("channels", [1, 7, 24, 32, 512])
def test_groups_divide_the_channels(channels: int) -> None:
    model = nn.Sequential(nn.BatchNorm2d(channels))
    fix(model)
    assert isinstance(model[0], nn.GroupNorm) and channels % model[0].num_groups == 0
    assert model[0].num_groups == min(16, channels & -channels)


def test_scale_and_shift_device_and_type_stay() -> None:
    norm = nn.BatchNorm2d(8, eps=1e-3, dtype=torch.bfloat16).eval()
    nn.init.normal_(norm.weight)
    norm.bias.requires_grad_(False)
    model = nn.Sequential(norm, nn.BatchNorm2d(8, affine=False)).eval()
    fix(model)
    first, second = model
    assert first.weight is norm.weight and first.bias is norm.bias and first.eps == 1e-3
    assert not first.training and not second.affine


class Activated(nn.BatchNorm2d):
    """More than normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.LazyBatchNorm2d(), "does not know its channels yet"),
        (Activated(8), "may do more than normalise"),
        (nn.BatchNorm1d(1), "nothing to be normalised by"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_cannot_be_replaced_is_refused_in_one_line_and_nothing_changes(
    module: nn.Module, says: str
) -> None:
    model = nn.Sequential(nn.BatchNorm2d(8), nn.ModuleDict({"last": module}))
    with pytest.raises(ModelError, match=says) as error:
        fix(model)
    assert "\n" not in str(error.value) and str(error.value).startswith("1.last: ")
    assert isinstance(model[0], nn.BatchNorm2d)


def test_the_model_itself_is_replaced_by_whoever_holds_it() -> None:
    for act in (fix, refuse_mixing_modules):
        with pytest.raises(ModelError, match=r"model = torch.nn.GroupNorm\(8, 24\)"):
            act(nn.BatchNorm2d(24))
    with pytest.raises(ModelError, match="1 or more"):
        fix(nn.Sequential(), groups=0)


def test_what_was_refused_trains_once_it_is_fixed(tmp_path: Path) -> None:
    (x, words), (u, others) = records(40), records(10, seed=1)
    data = data_from(
        train=((x, words), words % 2), test=((u, others), others % 2), records=40, classes=2
    )
    settings = Settings(noise_multiplier=1.0, rate=0.2, delta=1e-5, accountant="rdp")
    model = Net()
    with pytest.raises(ModelError, match=r"dpigu\.fix"):
        train(dpsgd(2), data, model, settings, out=tmp_path / "run", progress=False)
    fix(model)
    assert train(dpsgd(2), data, model, settings, progress=False).summary["steps"] == 2


@pytest.mark.parametrize(
    "module", [nn.GroupNorm(4, 24), nn.LayerNorm(24), nn.InstanceNorm2d(24, affine=True)], ids=repr
)
def test_normalising_within_the_record_is_allowed(module: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(2, 2), module)
    refuse_mixing_modules(model)
    assert fix(model) == ()


def test_a_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(ModelError, match="nothing to train"):
        refuse_mixing_modules(nn.Sequential(nn.Flatten()))
    with pytest.raises(ModelError, match="nothing to train"):
        refuse_mixing_modules(nn.Linear(2, 2).requires_grad_(False))


# The command

FACTORIES = """
from torch import nn
def mixed(classes):
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(6, classes))
def apart():
    return nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
def lazy():
    return nn.Sequential(nn.LazyBatchNorm2d())
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_mixed_nets", raising=False)
    (tmp_path / "my_mixed_nets.py").write_text(FACTORIES)
    return "my_mixed_nets"


def test_the_command_lists_what_it_would_change_and_the_line_that_does(nets: str) -> None:
    told = dpigu_json("fix", f"{nets}:mixed", "--data", "digits")
    assert told["changes"] == [
        Change("1", "BatchNorm2d(8)", "GroupNorm(8, 8)")._asdict(),
    ]
    result = dpigu("fix", f"{nets}:mixed", "--classes", 3, "--groups", 4)
    assert result.exit_code == 0
    assert "1: BatchNorm2d(8) -> GroupNorm(4, 8)" in result.stdout
    assert "dpigu.fix(model, groups=4)" in result.stdout
    assert "nothing to change" in dpigu("fix", f"{nets}:apart").stdout


def test_the_command_refuses_in_one_line(nets: str) -> None:
    assert "does not know its channels" in one_line(dpigu("fix", f"{nets}:lazy"))
    assert "module:factory" in one_line(dpigu("fix", "linear"))
    assert "Did you mean digits?" in one_line(dpigu("fix", f"{nets}:mixed", "--data", "digit"))
    assert "wants other arguments" in one_line(dpigu("fix", f"{nets}:mixed"))
