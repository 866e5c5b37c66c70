"""Every mistake of a user of `dpigu train` is one line and 2, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.dpigu_command import dpigu, one_line, train

SHORT = ("--steps", 2, "--accountant", "rdp")
DIGITS = ("--preset", "dpsgd", "--data", "digits", *SHORT, "--noise-multiplier", 1)
NOT_PRIVATE = ("--preset", "non-private", "--data", "digits", "--steps", 2)

MISTAKES: dict[str, tuple[tuple[object, ...], str]] = {
    "neither preset nor configuration": (("--data", "digits"), "--preset"),
    "both": ((*DIGITS, "--config", "a.toml"), "not both"),
    "unknown preset": (("--preset", "dpsdg", "--data", "digits"), "Did you mean dpsgd?"),
    "no data": (("--preset", "dpsgd"), "--data"),
    "unknown data": (("--preset", "dpsgd", "--data", "x", "--records", 9), "unknown data set"),
    "undeclared data": (("--preset", "dpsgd", "--data", "some.npz"), "Declare --records;"),
    "missing file": (
        ("--preset", "dpsgd", "--data", "some.npz", "--records", 9, "--classes", 2),
        "no such file",
    ),
    "undeclared classes": (
        ("--preset", "dpsgd", "--data", "some.npz", "--records", 9),
        "Declare --records and --classes.",
    ),
    "declared twice": ((*DIGITS, "--records", 1400), "declared already"),
    "label out of range": (
        ("--preset", "dpsgd", "--data", "labels.npz", "--records", 9, "--classes", 2),
        "label lies outside",
    ),
    "NaN": (
        ("--preset", "dpsgd", "--data", "nan.npz", "--records", 9, "--classes", 2),
        "not finite",
    ),
    "unknown model": ((*DIGITS, "--model", "linaer"), "Did you mean linear?"),
    "model for other data": ((*DIGITS, "--model", "paper-mnist-cnn"), "digits-cnn"),
    "no such factory": ((*DIGITS, "--model", "nowhere:net"), "nowhere"),
    "steps and epochs": ((*DIGITS, "--epochs", 1), "not both"),
    "batch and rate": ((*DIGITS, "--batch", 9, "--rate", 0.1), "not both"),
    "batch too large": ((*DIGITS, "--batch", 1501), "at most 1500"),
    "ε without noise": ((*NOT_PRIVATE, "--epsilon", 4), "no noise"),
    "ε with σ = 0": ((*DIGITS, "--epsilon", 4, "--noise-multiplier", 0), "no noise"),
    "σ without noise": ((*NOT_PRIVATE, "--noise-multiplier", 2), "without noise"),
    "clip without clipper": ((*NOT_PRIVATE, "--clip", 2), "bound"),
    "assignment": ((*DIGITS, "--set", "clipper.bound"), "stage.option=value"),
    "unknown stage": ((*DIGITS, "--set", "cliper.bound=2"), "clipper"),
    "unknown option": ((*DIGITS, "--set", "clipper.bund=2"), "Did you mean 'bound'?"),
    "wrong type": ((*DIGITS, "--set", "clipper.bound=big"), "wrong type"),
    "out of range": ((*DIGITS, "--set", "clipper.bound=-1"), "bound"),
    "device": ((*DIGITS, "--device", "abacus"), "abacus"),
    "missing configuration": (("--config", "missing.toml"), "missing.toml"),
    "broken configuration": (("--config", "broken.toml"), "TOML"),
    "unknown key": (("--config", "unknown.toml"), "Did you mean 'settings'?"),
    "resume what": (("--resume",), "--out"),
    "resume nothing": (("--resume", "--out", "missing"), "no run folder"),
    "too many canaries": ((*DIGITS, "--canaries", 10**6), "--canaries: there are fewer"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with files that are wrong in one way each."""
    monkeypatch.chdir(tmp_path)
    x, y = np.zeros((9, 4)), np.arange(9) % 2
    np.savez("labels.npz", x=x, y=y + 1, test_x=x, test_y=y)
    np.savez("nan.npz", x=x + np.nan, y=y, test_x=x, test_y=y)
    Path("broken.toml").write_text("preset = ")
    Path("unknown.toml").write_text("[setings]\n")
    return tmp_path


@pytest.mark.parametrize(("options", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    options: tuple[object, ...], says: str, folder: Path
) -> None:
    before = sorted(folder.rglob("*"))
    result = dpigu("train", *options)
    assert result.exit_code == 2, result.stderr
    line = one_line(result)
    assert line.startswith("error: ")
    assert says in line
    assert sorted(folder.rglob("*")) == before


def test_a_run_that_is_there_is_neither_overwritten_nor_changed_on_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    for options, says in (
        (DIGITS, "a run is there already"),
        (("--resume", "--epsilon", 8), "--epsilon cannot stand beside --resume"),
        (("--resume", "--set", "clipper.bound=1"), "--set cannot stand beside --resume"),
    ):
        result = dpigu("train", *options, "--out", out)
        assert result.exit_code == 2
        assert says in result.stderr.splitlines()[-1]
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
