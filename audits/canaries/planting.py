"""Canaries by fair coins: planned and committed to before training, joined by keyed fingerprints.

A canary's base record, where it has one, leaves the training data. Heads puts the canary there,
tails puts nothing; so whether a canary is in is the coin's choice alone. The declared number of
records, the rate and the divisor stay what they were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from dpigu.audits.canaries.coins import flip
from dpigu.audits.canaries.fingerprints import data_fingerprint, fingerprints_of
from dpigu.audits.canaries.kinds import KINDS, canary_records
from dpigu.audits.evidence import EvidenceError, read_evidence, write_private
from dpigu.audits.statistics import (
    SHARES,
    WITH_SPREAD,
    GuessGrid,
    check_confidence,
    guess_grid,
    one_run_ceiling,
)
from dpigu.dpcore import DataError, RunError
from dpigu.trainers import Data, Tensors
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.folder import COMMITMENT
from dpigu.trainers.tasks import CLASSIFICATION
from torch import Tensor

VERSION = 4
PLAN = "audit-plan.json"
JOURNAL = "times.jsonl"  # the trainer adds a line for every step


@dataclass(frozen=True, kw_only=True)
class CanaryPlan:
    """What an audit will do, fixed before training. Private, but for its commitment.

    Args:
        kind: what a canary is, a name in `dpigu.audits.canaries.kinds.KINDS`.
        ids: m places of base records in the training split, in rising order; or 0 … m − 1 where
            the canaries are made up.
        labels: m labels given.
        coins: m fair coins, 1 where the canary trains.
        fingerprints: HMAC-SHA256 of each canary: place, record, its own label and the one given.
        data_fingerprint: HMAC-SHA256 of the whole training split.
        key: of the fingerprints and of made-up canaries, hexadecimal; a plain hash would itself
            be a membership test.
        nonce: hides the plan behind its commitment, hexadecimal.
        grid: the guess counts that may decide.
        score: the kind's.
        tests: those that may decide.
        confidence: of the verdict, divided among the tests and the grid.
    """

    kind: str
    ids: tuple[int, ...] = field(repr=False)
    labels: tuple[int, ...] = field(repr=False)
    coins: tuple[int, ...] = field(repr=False)
    fingerprints: tuple[str, ...] = field(repr=False)
    data_fingerprint: str = field(repr=False)
    key: str = field(repr=False)
    nonce: str = field(repr=False)
    grid: GuessGrid
    score: str
    confidence: float
    tests: tuple[str, ...] = tuple(SHARES)
    version: int = VERSION

    def __post_init__(self) -> None:
        m = len(self.ids)
        sound = {
            "kind": self.kind in KINDS,
            "score": self.kind in KINDS and self.score == KINDS[self.kind].score,
            "tests": self.tests == tuple(self.shares),
            "ids": m > 0 and all(a < b for a, b in zip((-1, *self.ids), self.ids, strict=False)),
            "labels": len(self.labels) == m,
            "coins": len(self.coins) == m and set(self.coins) <= {0, 1},
            "fingerprints": len(self.fingerprints) == m,
        }
        if wrong := [name for name, right in sound.items() if not right]:
            raise EvidenceError("the audit's plan is not sound", where=", ".join(wrong))

    @property
    def commitment(self) -> str:
        """SHA-256(nonce ‖ the plan's canonical bytes), hexadecimal: binding and hiding."""
        return _commitment(dataclasses.asdict(self))

    def check(self, data: Data) -> None:
        """Refuse training data other than the plan was made for: changed, swapped or reordered.

        Raises: EvidenceError, without a word on which records differ.
        """
        key, kind = bytes.fromhex(self.key), KINDS[self.kind]
        there = not kind.from_data or max(self.ids) < len(data.train_y)
        same = there and self.fingerprints == fingerprints_of(
            self.kind, key, data, self.ids, self.labels
        )
        if not same or self.data_fingerprint != data_fingerprint(key, data):
            raise EvidenceError(
                "the training data does not match the fingerprints in the audit's plan",
                where=data.spec.name,
                remedy="Give the very data that the run was trained from, in the same order.",
            )

    def apply(self, data: Data) -> Data:
        """The data to train on: no base record, and the canary for every coin of heads.

        Where units are protected, every canary is one of its own: a unit of one record.
        Crafted gradients are no data: with them it stays as it is, and they reach the batch by
        `dpigu.audits.canaries.gradients.GradientCanaries`.
        Raises: EvidenceError if this is not the data that the plan was made for.
        """
        self.check(data)
        if self.white_box:
            return data
        stays_N = torch.ones(len(data.train_y), dtype=torch.bool)
        if KINDS[self.kind].from_data:
            stays_N[list(self.ids)] = False
        heads_m = torch.tensor(self.coins, dtype=torch.bool)
        x_m, y_m = self.records(data)
        x_N = torch.cat([data.train_x[stays_N], x_m[heads_m]])
        y_N = torch.cat([data.train_y[stays_N], y_m[heads_m]])
        units = data.units
        if units is not None:
            units = units.planted(stays_N.numpy(), int(heads_m.sum()))
        return dataclasses.replace(data, train=Tensors(x_N, y_N), units=units)

    @property
    def shares(self) -> Mapping[str, float]:
        """The shares of the error that the tests have; crafted gradients show their spread too."""
        return _shares(self.kind)

    @property
    def white_box(self) -> bool:
        """Whether the canaries are crafted gradients, told by the released sums."""
        return self.kind == "gradient"

    def records(self, data: Data) -> tuple[Tensor, Tensor]:
        """Every canary, trained or not: m records and the labels they are given."""
        key = bytes.fromhex(self.key)
        return canary_records(KINDS[self.kind], key, self.ids, self.labels, data)

    def save(self, folder: RunFolder) -> None:
        """Write the plan into private/ (mode 0600) and its commitment into public/.

        The commitment also opens the run's private journal, so that its place there shows that
        it came before the first step.
        Raises: RunError if a step is charged already, or a plan is there.
        """
        begun = [folder.public / "ledger.jsonl", folder.private / JOURNAL, folder.private / PLAN]
        if any(path.exists() for path in begun):
            raise RunError(
                "an audit's plan is made once, before the first step",
                where=str(folder.path),
                remedy="Train a new run with canaries.",
            )
        plan = json.dumps(dataclasses.asdict(self), indent=1)
        write_private(folder.private / PLAN, plan.encode())
        note = "SHA-256(nonce || plan): it binds the audit's plan and reveals nothing of its coins."
        public = {
            "version": self.version,
            "kind": self.kind,
            "count": len(self.ids),
            "commitment": self.commitment,
            "note": note,
        }
        folder.write_json(COMMITMENT, public)
        folder.note_privately(JOURNAL, {"audit_commitment": self.commitment})


def plan_canaries(
    data: Data, count: int, kind: str = "mislabelled", confidence: float = 0.95
) -> CanaryPlan:
    """Choose base records, wrong labels and coins, all uniformly from the system's entropy.

    Args:
        data: the data as loaded; it is not changed, `CanaryPlan.apply` gives what trains.
        count: m, at most half of the declared records.
        kind: a name in `dpigu.audits.canaries.kinds.KINDS`.
        confidence: of the verdict.

    Raises: DataError for an unknown kind, or a count too small for any verdict or too large.
    """
    if kind not in KINDS:
        raise DataError("unknown kind of canary", got=kind, expected=", ".join(KINDS))
    if kind != "gradient" and data.spec.task != CLASSIFICATION:
        raise DataError(
            "canaries that are records are for classification",
            where="canaries",
            got=f"the task {data.spec.task}",
            remedy="Take the kind 'gradient'.",
        )
    check_confidence(confidence)
    _check_count(data, count, confidence, kind)
    draw = secrets.SystemRandom()
    ids = tuple(range(count))
    if KINDS[kind].from_data:
        ids = tuple(sorted(draw.sample(range(len(data.train_y)), count)))
    labels = tuple(_label(draw, kind, data, i) for i in ids)
    key = secrets.token_bytes(32)
    return CanaryPlan(
        kind=kind,
        ids=ids,
        labels=labels,
        coins=flip(count),
        fingerprints=fingerprints_of(kind, key, data, ids, labels),
        data_fingerprint=data_fingerprint(key, data),
        key=key.hex(),
        nonce=secrets.token_hex(32),
        grid=guess_grid(count),
        score=KINDS[kind].score,
        confidence=confidence,
        tests=tuple(_shares(kind)),
    )


def load_plan(folder: RunFolder) -> CanaryPlan:
    """The plan of a run, held against its commitment and its place in the journal.

    Raises: EvidenceError if there is none, it is not the one that was committed to, or nothing
        shows that it came before the first step.
    """
    path = folder.private / PLAN
    if not path.is_file():
        raise EvidenceError(
            "this run has no canaries: no coins decided who was in it",
            where=str(folder.path),
            remedy="Train a run with canaries.",
        )
    stored = read_evidence(path)
    public = folder.public / COMMITMENT
    committed = read_evidence(public).get("commitment") if public.is_file() else None
    if not stored.get("nonce") or committed != _commitment(stored):
        raise EvidenceError(
            "the audit's plan is not the one that was committed to before training",
            where=str(path),
            remedy="Restore both files as training wrote them, or train again with canaries.",
        )
    _check_order(folder, committed)
    if stored.get("version") != VERSION:
        raise EvidenceError(
            "the audit's plan has another version",
            where=str(path),
            got=stored.get("version"),
            expected=VERSION,
            remedy="Audit with the version of dpigu that trained the run.",
        )
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return CanaryPlan(**fields)


def _check_count(data: Data, count: int, confidence: float, kind: str) -> None:
    from_data, shares = KINDS[kind].from_data, _shares(kind)
    most = data.spec.records // 2
    if from_data and count > len(data.train_y):
        raise DataError("there are fewer records than canaries", where="canaries", got=count)
    if count > most:
        raise DataError(
            "too many canaries: what trains would be another data set",
            where="canaries",
            got=count,
            expected=f"at most half of the {data.spec.records} declared records",
            remedy=f"Ask for {most} or fewer.",
        )
    by_unit = kind != "gradient" and data.units is not None
    if by_unit and len(data.protected) + count > data.spec.records:
        raise DataError(
            "canaries that are records are units of their own, and the declared number of units "
            "has no room for them",
            where="canaries",
            got=count,
            remedy="Declare as many units more as there are canaries, or take the kind 'gradient'.",
        )
    least = next(m for m in range(1, 10_000) if _ceiling(m, confidence, shares) > 0)
    if count < least:
        raise DataError(
            "too few canaries for any verdict: perfect guesses would show nothing",
            where="canaries",
            got=count,
            expected=f"{least} or more at {100 * confidence:g}% confidence",
            remedy="A few hundred are usual.",
        )


def _ceiling(count: int, confidence: float, shares: Mapping[str, float]) -> float:
    grid = guess_grid(count)
    divided = 1 - (1 - confidence) * shares["one-run"] / len(grid)
    return max(one_run_ceiling(count, guesses, 0.0, divided) for guesses in grid)


def _shares(kind: str) -> Mapping[str, float]:
    return WITH_SPREAD if kind == "gradient" else SHARES


def _label(draw: secrets.SystemRandom, kind: str, data: Data, i: int) -> int:
    """Uniform on the classes but its own if mislabelled, on all if made up."""
    if kind == "records":
        return int(data.train_y[i])
    if kind == "gradient":
        return 0
    assert data.spec.classes is not None
    if kind != "mislabelled":
        return draw.randrange(data.spec.classes)
    other = draw.randrange(data.spec.classes - 1)
    return other + (other >= int(data.train_y[i]))


def _commitment(plan: dict[str, Any]) -> str:
    rest = {name: value for name, value in plan.items() if name != "nonce"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{plan['nonce']}{canonical}".encode()).hexdigest()


def _check_order(folder: RunFolder, commitment: str) -> None:
    """The journal's first line must be the commitment: what is written later comes after it."""
    path = folder.private / JOURNAL
    first = path.read_text(errors="replace").partition("\n")[0] if path.is_file() else ""
    if first != json.dumps({"audit_commitment": commitment}):
        raise EvidenceError(
            "nothing shows that the audit's plan was made before training",
            where=str(path),
            expected="the plan's commitment as the first line",
            remedy="Restore the file as training wrote it, or train again with canaries.",
        )
