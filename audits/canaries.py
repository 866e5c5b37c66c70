"""Canaries by fair coins: planned and committed to before training, joined by keyed fingerprints.

A canary's base record never trains. Heads puts a mislabelled copy of it into the training data,
tails puts nothing there; so whether a canary is in is the coin's choice alone. The declared number
of records, the rate and the divisor stay what they were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audits.bounds import GuessGrid, check_confidence, guess_grid, one_run_ceiling
from audits.scores import SCORES
from dpcore.errors import DataError, DpiguError, RunError
from trainers.data import Data
from trainers.folder import RunFolder, write_whole

KINDS = ("mislabelled",)
VERSION = 1
PLAN = "audit-plan.json"
COMMITMENT = "audit-commitment.json"
JOURNAL = "times.jsonl"  # the trainer adds a line for every step


class EvidenceError(DpiguError):
    """Evidence that cannot support a verdict: an audit that meets it is invalid."""


@dataclass(frozen=True, kw_only=True)
class CanaryPlan:
    """What an audit will do, fixed before training. Private, but for its commitment.

    Args:
        kind: how a canary is made from its base record.
        ids: m places of base records in the training split, in rising order.
        labels: m labels given, none of them its base record's.
        coins: m fair coins, 1 where the canary trains.
        fingerprints: HMAC-SHA256 of each canary: place, record, its label and the label given.
        data_fingerprint: HMAC-SHA256 of the whole training split.
        key: of the fingerprints, hexadecimal; a plain hash would itself be a membership test.
        nonce: hides the plan behind its commitment, hexadecimal.
        grid: the guess counts that may decide.
        score: a name in `audits.scores.SCORES`.
        confidence: of the verdict, divided among the grid.
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
    version: int = VERSION

    @property
    def commitment(self) -> str:
        """SHA-256(nonce ‖ the plan's canonical bytes), hexadecimal: binding and hiding."""
        return _commitment(dataclasses.asdict(self))

    def check(self, data: Data) -> None:
        """Refuse training data other than the plan was made for: changed, swapped or reordered.

        Raises: EvidenceError, without a word on which records differ.
        """
        key = bytes.fromhex(self.key)
        same = max(self.ids) < len(data.train_y) and self.fingerprints == tuple(
            _canary_fingerprint(key, data, i, label)
            for i, label in zip(self.ids, self.labels, strict=True)
        )
        if not same or self.data_fingerprint != _data_fingerprint(key, data):
            raise EvidenceError(
                "the training data does not match the fingerprints in the audit's plan",
                where=data.spec.name,
                remedy="Give the very data that the run was trained from, in the same order.",
            )

    def apply(self, data: Data) -> Data:
        """The data to train on: no base record, and a mislabelled copy for every coin of heads.

        Raises: EvidenceError if this is not the data that the plan was made for.
        """
        self.check(data)
        stays_N = torch.ones(len(data.train_y), dtype=torch.bool)
        stays_N[list(self.ids)] = False
        heads = [i for i, coin in zip(self.ids, self.coins, strict=True) if coin]
        given = [label for label, coin in zip(self.labels, self.coins, strict=True) if coin]
        return dataclasses.replace(
            data,
            train_x=torch.cat([data.train_x[stays_N], data.train_x[heads]]),
            train_y=torch.cat([data.train_y[stays_N], data.train_y.new_tensor(given)]),
        )

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
                remedy="Train a new run with --canaries.",
            )
        plan = json.dumps(dataclasses.asdict(self), indent=1)
        write_private(folder.private / PLAN, plan.encode())
        note = "SHA-256(nonce || plan): it binds the audit's plan and reveals nothing of it."
        public = {"version": self.version, "commitment": self.commitment, "note": note}
        write_whole(folder.public / COMMITMENT, json.dumps(public, indent=2) + "\n")
        folder.note_privately(JOURNAL, {"audit_commitment": self.commitment})


def plan_canaries(
    data: Data, count: int, kind: str = "mislabelled", confidence: float = 0.95
) -> CanaryPlan:
    """Choose base records, wrong labels and coins, all uniformly from the system's entropy.

    Args:
        data: the data as loaded; it is not changed, `CanaryPlan.apply` gives what trains.
        count: m, at most half of the declared records.
        kind: "mislabelled".
        confidence: of the verdict.

    Raises: DataError for an unknown kind, or a count too small for any verdict or too large.
    """
    if kind not in KINDS:
        raise DataError("unknown kind of canary", got=kind, expected=", ".join(KINDS))
    check_confidence(confidence)
    _check_count(data, count, confidence)
    draw = secrets.SystemRandom()
    ids = tuple(sorted(draw.sample(range(len(data.train_y)), count)))
    labels = tuple(_other_label(draw, int(data.train_y[i]), data.spec.classes) for i in ids)
    key = secrets.token_bytes(32)
    prints = (_canary_fingerprint(key, data, i, y) for i, y in zip(ids, labels, strict=True))
    return CanaryPlan(
        kind=kind,
        ids=ids,
        labels=labels,
        coins=tuple(draw.getrandbits(1) for _ in ids),
        fingerprints=tuple(prints),
        data_fingerprint=_data_fingerprint(key, data),
        key=key.hex(),
        nonce=secrets.token_hex(32),
        grid=guess_grid(count),
        score=next(iter(SCORES)),
        confidence=confidence,
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
            remedy="Train with canaries: dpigu train … --canaries N.",
        )
    stored = _read_json(path)
    public = folder.public / COMMITMENT
    committed = _read_json(public).get("commitment") if public.is_file() else None
    if not stored.get("nonce") or committed != _commitment(stored):
        raise EvidenceError(
            "the audit's plan is not the one that was committed to before training",
            where=str(path),
            remedy="Restore both files as training wrote them, or train again with --canaries.",
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
    return CanaryPlan(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()})


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole that nobody but its owner may read (mode 0600)."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


def _check_count(data: Data, count: int, confidence: float) -> None:
    most = data.spec.records // 2
    if count > most or count > len(data.train_y):
        raise DataError(
            "too many canaries: their base records no longer train",
            where="canaries",
            got=count,
            expected=f"at most half of the {data.spec.records} declared records",
            remedy=f"Ask for {most} or fewer.",
        )
    least = next(m for m in range(1, 10_000) if _ceiling(m, confidence) > 0)
    if count < least:
        raise DataError(
            "too few canaries for any verdict: perfect guesses would show nothing",
            where="canaries",
            got=count,
            expected=f"{least} or more at {100 * confidence:g}% confidence",
            remedy="A few hundred are usual.",
        )


def _ceiling(count: int, confidence: float) -> float:
    grid = guess_grid(count)
    divided = 1 - (1 - confidence) / len(grid)
    return max(one_run_ceiling(count, guesses, 0.0, divided) for guesses in grid)


def _other_label(draw: secrets.SystemRandom, label: int, classes: int) -> int:
    """A label uniform on the other classes."""
    other = draw.randrange(classes - 1)
    return other + (other >= label)


def _canary_fingerprint(key: bytes, data: Data, i: int, given: int) -> str:
    """HMAC-SHA256 of (place, label, label given, record)."""
    head = json.dumps([i, int(data.train_y[i]), given, list(data.spec.shape)])
    return hmac.digest(key, head.encode() + b"\0" + _bytes(data.train_x[i]), "sha256").hex()


def _data_fingerprint(key: bytes, data: Data) -> str:
    """HMAC-SHA256 of the training split: shape, records, labels."""
    digest = hmac.new(key, json.dumps(list(data.train_x.shape)).encode() + b"\0", "sha256")
    for x in data.train_x.split(1000):
        digest.update(_bytes(x))
    digest.update(_bytes(data.train_y))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    array = tensor.cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _commitment(plan: dict[str, Any]) -> str:
    rest = {name: value for name, value in plan.items() if name != "nonce"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{plan['nonce']}{canonical}".encode()).hexdigest()


def _check_order(folder: RunFolder, commitment: str) -> None:
    """The journal's first line must be the commitment: what is written later comes after it."""
    path = folder.private / JOURNAL
    first = path.read_text().partition("\n")[0] if path.is_file() else ""
    if first != json.dumps({"audit_commitment": commitment}):
        raise EvidenceError(
            "nothing shows that the audit's plan was made before training",
            where=str(path),
            expected="the plan's commitment as the first line",
            remedy="Restore the file as training wrote it, or train again with --canaries.",
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise EvidenceError("the file cannot be read as JSON", where=str(path)) from error
    if not isinstance(loaded, dict):
        raise EvidenceError("the file holds no JSON object", where=str(path))
    return loaded
