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
import secrets
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audits.bounds import GuessGrid, check_confidence, guess_grid, one_run_ceiling
from audits.evidence import EvidenceError, read_evidence, write_private
from audits.scores import SCORES
from dpcore.errors import DataError, RunError
from trainers.data import Data
from trainers.folder import RunFolder, write_whole

KINDS = ("mislabelled",)
VERSION = 1
PLAN = "audit-plan.json"
COMMITMENT = "audit-commitment.json"
JOURNAL = "times.jsonl"  # the trainer adds a line for every step


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

    def __post_init__(self) -> None:
        m = len(self.ids)
        sound = {
            "kind": self.kind in KINDS,
            "score": self.score in SCORES,
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
    stored = read_evidence(path)
    public = folder.public / COMMITMENT
    committed = read_evidence(public).get("commitment") if public.is_file() else None
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
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return CanaryPlan(**fields)


def _check_count(data: Data, count: int, confidence: float) -> None:
    most = data.spec.records // 2
    if count > len(data.train_y):
        raise DataError("there are fewer records than canaries", where="canaries", got=count)
    if count > most:
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
