"""What to run where a design had no power: an advice as command lines."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpigu.audits.advice import Advice


def after_run(
    run: Path, claim: float | None, data_dir: Path | None, trust_code: bool
) -> Callable[[Advice], Sequence[str]]:
    """Of a run of this library: its recipe is trained again, with what the advice plants.

    Args:
        claim: that was tested in place of the run's own.
    """

    def steps_of(advice: Advice) -> Sequence[str]:
        config = ("--config", run / "public" / "config.toml")
        more = [] if data_dir is None else ["--data-dir", data_dir]
        more += ["--trust-code"] if trust_code else []
        if advice.design == "crafted gradients":
            out = _new(run, "gradients")
            planted = ("--canaries", advice.count, "--canary-kind", "gradient", *more)
            return (
                _line("dpigu", "train", *config, *planted, "--out", out),
                _line("dpaudit", "model", out, *more),
            )
        if advice.design == "trainings":
            of = [] if claim is None else ["--claim-epsilon", claim]
            trials = ("--trials", advice.count, *of, *more)
            return (_line("dpaudit", "campaign", *config, *trials, "--out", _new(run, "campaign")),)
        return (_line("dpaudit", "mechanism", config[1]),)

    return steps_of


def elsewhere(
    claim: float, delta: float, confidence: float, text: bool = False
) -> Callable[[Advice], Sequence[str]]:
    """Of a model that was trained elsewhere, on data whose file the command does not know.

    Args:
        text: whether the data are a text, a record a line.
    """

    def steps_of(advice: Advice) -> Sequence[str]:
        at = ("--delta", f"{delta:g}", "--confidence", f"{confidence:g}")
        if advice.design == "canaries":
            data = ("DATA.txt",) if text else ("DATA.csv", "--target", "COLUMN")
            return (
                _line("dpaudit", "plant", *data, "--canaries", advice.count, "--out", "CANARIES"),
                _line(
                    "dpaudit",
                    "planted",
                    "CANARIES",
                    "SCORES.csv",
                    "--claim-epsilon",
                    f"{claim!r}",
                    *at,
                ),
            )
        if advice.design == "models":
            half = advice.count // 2
            errors = {"false-positives": 0, "non-members": half}
            errors |= {"false-negatives": 0, "members": half}
            return (_line("dpaudit", "bound", "clopper-pearson", *_options(errors), *at),)
        return (_line("dpaudit", "mechanism", "CONFIG.toml"),)

    return steps_of


def _options(values: Mapping[str, object]) -> list[object]:
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def _new(run: Path, what: str) -> Path:
    """A folder beside the run that is not there yet."""
    names = (f"{run.name}-{what}{n}" for n in ("", *(f"-{k}" for k in range(2, 1000))))
    return next(path for name in names if not (path := run.parent / name).exists())


def _line(*words: object) -> str:
    return shlex.join(str(word) for word in words)
