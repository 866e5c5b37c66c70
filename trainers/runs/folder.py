"""The run folder: what the claim covers in `public/`, what must stay home in `private/`."""

from __future__ import annotations

import json
import platform
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Context
from importlib import metadata
from pathlib import Path
from typing import Any

import tomli_w
from dpigu.dpcore import RunError

PUBLIC = (
    "Everything in this folder is covered by the run's privacy claim (see STATEMENT.txt): it was\n"
    "computed from noised values, public constants and held-out data only, and may be shared.\n"
)
UNCLAIMED = (
    "This run makes no privacy claim: what is in this folder may reveal training records.\n"
    "Share it only as you would share the training data.\n"
)
PRIVATE = (
    "Nothing in this folder is covered by the privacy claim: coins, canary ids, keyed\n"
    "fingerprints, times and error reports depend on the training data. Do not share it.\n"
)


class RunFolder:
    """A run on disk.

    Args:
        path: the folder; `public/` and `private/` are made in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.public = self.path / "public"
        self.private = self.path / "private"

    @classmethod
    def create(cls, path: Path, claimed: bool) -> RunFolder:
        """A new run folder; an error if anything is there already."""
        folder = cls(path)
        if folder.public.exists() or (folder.path.exists() and not folder.path.is_dir()):
            raise RunError(
                "a run is there already",
                where=str(path),
                remedy="Give another `out`, `resume` the run that is there, or delete it.",
            )
        folder.public.mkdir(parents=True)
        folder.private.mkdir(mode=0o700, exist_ok=True)
        (folder.public / "README.txt").write_text(PUBLIC if claimed else UNCLAIMED)
        (folder.private / "README.txt").write_text(PRIVATE)
        return folder

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A run folder that is there; an error if it is not."""
        folder = cls(path)
        if not (folder.public / "config.toml").is_file():
            raise RunError(
                "this is no run folder",
                where=str(path),
                expected="a folder that training made, with public/config.toml",
            )
        return folder

    def write_configuration(self, configuration: Mapping[str, Any]) -> None:
        """The configuration and the versions that it ran with."""
        (self.public / "config.toml").write_text(tomli_w.dumps(configuration))
        self.write_json("versions.json", versions())

    def configuration(self) -> dict[str, Any]:
        """The configuration as it was written."""
        try:
            return tomllib.loads((self.public / "config.toml").read_text())
        except tomllib.TOMLDecodeError as error:
            raise RunError(
                f"the configuration cannot be read: {error}", where=str(self.public / "config.toml")
            ) from error

    def write_json(self, name: str, value: object) -> None:
        """A public JSON file, written whole or not at all; never NaN or Infinity in it."""
        write_whole(self.public / name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def summary(self) -> dict[str, Any]:
        """`public/summary.json`; an error if the run has not finished."""
        path = self.public / "summary.json"
        if not path.is_file():
            raise RunError(
                "this run has not finished",
                where=str(self.path),
                remedy="Resume it, and it finishes.",
            )
        try:
            loaded: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise RunError(f"the summary cannot be read: {error}", where=str(path)) from error
        return loaded

    def charge(self, phase: str, step: int) -> None:
        """Write a step to the ledger; called before the release that it pays for."""
        with (self.public / "ledger.jsonl").open("a") as ledger:
            ledger.write(json.dumps({"phase": phase, "step": step}) + "\n")

    def charged(self, phases: list[str]) -> list[int]:
        """How many steps of each phase the ledger holds, steps that ran again included.

        A last line cut short by a crash counts: what it paid for may have been released.
        """
        counts = dict.fromkeys(phases, 0)
        path = self.public / "ledger.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        last = phases[0]
        for line in lines:
            try:
                last = json.loads(line)["phase"]
            except (json.JSONDecodeError, KeyError, TypeError):
                with path.open("a") as ledger:
                    ledger.write("\n")
            if last not in counts:
                raise RunError(
                    "the ledger names a phase that the plan has not",
                    where=str(path),
                    got=last,
                    expected=phases,
                )
            counts[last] += 1
        return [counts[phase] for phase in phases]

    def decision(self, step: int, kept: bool) -> None:
        """Add a line about an update that was looked at; the look is released and charged."""
        with (self.public / "decisions.jsonl").open("a") as decisions:
            decisions.write(json.dumps({"step": step, "kept": kept}) + "\n")

    def metric(self, record: Mapping[str, object]) -> None:
        """Add a line of held-out metrics."""
        with (self.public / "metrics.jsonl").open("a") as metrics:
            metrics.write(json.dumps(record, allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of held-out metrics."""
        path = self.public / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines]

    def note_privately(self, name: str, record: Mapping[str, object]) -> None:
        """Add a line to a private file: times, memory, diagnostics."""
        with (self.private / name).open("a") as file:
            file.write(json.dumps(record) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file by renaming, so that a crash leaves the old one or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("dpigu", "torch", "numpy", "scipy", "dp-accounting", "prv-accountant")
    return {"python": platform.python_version(), **{n: metadata.version(n) for n in names}}


def statement(summary: Mapping[str, Any]) -> str:
    """A paragraph about a run's privacy that its owner can publish."""
    if not summary["private"]:
        return (
            f"This model was trained with {summary['preset']} and makes no claim of differential "
            f"privacy: {summary['why_not_private']}.\n"
        )
    epsilon = float(Context(prec=4, rounding=ROUND_CEILING).create_decimal(summary["epsilon"]))
    return (
        "This model was trained with differential privacy: "
        f"ε = {epsilon:.4g} at δ = {summary['delta']:g} under {summary['adjacency']} "
        f"adjacency of single records, by {summary['preset']} over {_steps(summary)}, each "
        f"on a Poisson sample taken at rate {summary['rate']:.6g} of {summary['records']} declared "
        f"records, with Gaussian noise of {_noise(summary['phases'])} times the clipping norm. "
        f"{_looks(summary['phases'])}ε was computed by the {summary['accountant'].upper()} "
        f"accountant of dpigu {summary['versions']['dpigu']} from the ledger of the steps that "
        f"ran, all phases included. Held-out data is treated as public{_public(summary)}. Choices "
        "made by looking at the training data before this run are not charged. Noise and "
        "sampling used the operating system's entropy and were not stored.\n"
    )


def _steps(summary: Mapping[str, Any]) -> str:
    phases = summary["phases"]
    if len(phases) == 1:
        return f"{summary['steps']} steps"
    return (
        f"{summary['steps']} steps (" + _listed(f"{p['name']} {p['steps']}" for p in phases) + ")"
    )


def _noise(parts: Sequence[Mapping[str, Any]]) -> str:
    """The noise multiplier, or each phase's where they differ."""
    by_name = {part["name"]: f"{part['noise_multiplier']:.5g}" for part in parts}
    if len(set(by_name.values())) == 1:
        return next(iter(by_name.values()))
    return _listed(f"{sigma} ({name})" for name, sigma in by_name.items())


def _looks(phases: Sequence[Mapping[str, Any]]) -> str:
    """A sentence about the looks at updates, where there are any."""
    looks = [
        {"name": phase["name"], **phase["selective_update"]}
        for phase in phases
        if phase["selective_update"]
    ]
    if not looks:
        return ""
    rates = _listed(dict.fromkeys(f"{selective_update['rate']:.6g}" for selective_update in looks))
    return (
        f"Every update was looked at, on a Poisson sample of its own at rate {rates}, with "
        f"Gaussian noise of {_noise(looks)} times the look's own clipping norm; every look is "
        "charged, whether the update was kept or not. "
    )


def _public(summary: Mapping[str, Any]) -> str:
    """What else counts as public, and so was neither protected nor charged."""
    named = summary["public_data"]
    return "" if named is None else f", and so are the records that stages learnt from ({named})"


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
