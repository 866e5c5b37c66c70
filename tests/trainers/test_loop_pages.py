"""The loops that docs/loops.md and docs/from-opacus.md show run as they stand, and are short."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.mechanisms import dpsgd
from dpigu.trainers import Session, Settings, make_private, train
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def lines_of(code: str) -> int:
    return sum(bool(line.strip()) for line in code.splitlines())


def run(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "page", "exec"), names)


def test_a_loop_with_scheduler_log_and_early_stopping_has_at_most_twenty_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program, resumption, callbacks, tracker, *_ = blocks("loops.md")
    assert lines_of(program) <= 20
    names: dict[str, Any] = {}
    run(program, names)
    reached, claimed, spent, accuracy = map(float, capsys.readouterr().out.split())
    assert claimed == 4.0 and 0 < spent <= 4.0 and accuracy > 0.5
    names["log"].close()
    rows = [row.split(",") for row in (tmp_path / "log.csv").read_text().splitlines()]
    assert [int(row[0]) for row in rows] == list(range(5, int(reached) + 1, 5))
    assert names["optimizer"].param_groups[0]["lr"] < 0.02
    run(resumption, names)
    assert names["session"].summary["steps"] == 60
    told: list[dict[str, Any]] = []

    class Log:
        def log(self, values: dict[str, Any]) -> None:
            told.append(values)

    run(callbacks, names)
    assert (tmp_path / "runs/log.csv").is_file()
    run(tracker, names)
    train(
        dpsgd(2),
        names["data"],
        names["model"],
        names["settings"],
        callbacks=[names["Tracker"](Log())],
        progress=False,
    )
    assert [next(iter(values)) for values in told].count("released norm") == 2
    assert told[-1] == {"claimed epsilon": 4.0}


def test_the_image_example_from_opacus_is_shorter_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs, ours, *_ = blocks("from-opacus.md")
    assert lines_of(ours) < lines_of(theirs)
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(96) % 2
    x = torch.randn(96, 3, 32, 32, generator=draw) + (2.0 * y - 1)[:, None, None, None]
    names: dict[str, Any] = {
        "model": nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2)
        ),
        "train_loader": DataLoader(TensorDataset(x[:64], y[:64]), batch_size=32, shuffle=True),
        "test_loader": DataLoader(TensorDataset(x[64:], y[64:]), batch_size=32),
    }
    run(ours, names)
    accuracy, claimed = map(float, capsys.readouterr().out.split())
    assert claimed == 50.0 and accuracy > 0.7
    assert names["session"].summary["steps"] == 40
    assert (tmp_path / "runs/images/public/STATEMENT.txt").is_file()


def test_the_text_example_from_opacus_is_shorter_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An LSTM over padded bytes, on the fast engine; a third of the names would be chance."""
    monkeypatch.chdir(tmp_path)
    _, _, shared, theirs, ours, *_ = blocks("from-opacus.md")
    assert lines_of(ours) < lines_of(theirs)
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    run(shared, names)
    run(ours, names)
    accuracy, claimed = map(float, capsys.readouterr().out.split())
    assert claimed == pytest.approx(12.0, abs=0.1) and accuracy > 0.6
    assert names["run"].summary["steps"] == 20
    assert (tmp_path / "runs/names/public/STATEMENT.txt").is_file()


def test_what_the_page_says_of_fixing_is_what_it_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import dpigu

    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64))
    run(blocks("from-opacus.md")[-1], {"dpigu": dpigu, "model": model})
    assert capsys.readouterr().out == "1: BatchNorm2d(64) -> GroupNorm(16, 64)\n"


def test_every_argument_that_the_page_maps_is_one_of_ours() -> None:
    page = (DOCS / "from-opacus.md").read_text()
    table = page[page.index("| Opacus | dpigu |") :]
    ours = " ".join(row.split("|")[2] for row in table.splitlines() if row.count("|") == 3)
    options = set(re.findall(r"`(\w+)=`", ours))
    known = {*inspect.signature(make_private).parameters, *vars(Settings())}
    assert options <= known, options - known
    for name in re.findall(r"`session\.(\w+)`", page):
        assert hasattr(Session, name), name
