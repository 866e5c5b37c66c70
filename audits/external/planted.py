"""Canaries in a data set that somebody else trains on: chosen by coins, which stay here.

A table of records (.csv) gets records under a wrong label; a text (.txt, a record a line) gets
made-up sentences with a random number. What trains is one file, what to score another, and
neither says which canaries are in. The folder keeps the coins, committed to before training.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.audits.canaries import check_coins
from dpigu.audits.canaries.coins import flip
from dpigu.audits.evidence import EvidenceError, read_evidence, write_private
from dpigu.audits.external.signals import signal_for
from dpigu.audits.external.tables import read_columns
from dpigu.audits.statistics import Reals
from dpigu.dpcore import DataError, RunError
from numpy.typing import NDArray

CANARY = "canary"
TRAIN, CANARIES, PLAN, COMMITMENT = "train", "canaries", "coins.json", "commitment.json"
DIGITS = 9
"""Of the random number in a canary's sentence: about 30 bits."""
SENTENCE = "The number of {name} is {number}."
NAMES = ("Amber", "Birch", "Cedar", "Dune", "Ember", "Fjord", "Glade", "Heath", "Inlet", "Jade")


@dataclass(frozen=True, kw_only=True)
class PlantedCanaries:
    """Where the files are, and how many canaries there are.

    Args:
        train: to train on. canaries: to score, in the order of their numbers.
    """

    train: Path
    canaries: Path
    count: int


def plant(data: Path, count: int, out: Path, *, target: str | None = None) -> PlantedCanaries:
    """Choose canaries by the system's entropy, flip a fair coin for each, and write what trains.

    Args:
        data: .csv with a header line, or .txt with a record a line.
        count: how many coins. out: a new folder; its `coins.json` is its owner's alone.
        target: the column of a table's labels.

    A table's canary is a record under another label that occurs in the table; the record itself
    leaves what trains, and comes back under that label on heads.
    Raises: DataError for another file, an unknown column, fewer than two labels, or too many
        canaries; RunError where the folder is there already.
    """
    if data.suffix.lower() not in (".csv", ".txt") or not data.is_file():
        raise DataError("canaries are written into a .csv or a .txt", where=str(data))
    if out.exists():
        raise RunError("this folder is there already", where=str(out))
    coins, draw = flip(count), secrets.SystemRandom()
    text = data.suffix.lower() == ".txt"
    if text:
        head: list[str] = []
        records = [[line] for line in data.read_text(encoding="utf-8").splitlines() if line]
        made = [[_sentence(draw)] for _ in range(count)]
    else:
        head, records, made = _mislabelled(data, count, target, draw)
    trained = records + [row for row, coin in zip(made, coins, strict=True) if coin]
    draw.shuffle(trained)
    out.mkdir(mode=0o700, parents=True)
    files = PlantedCanaries(
        train=out / f"{TRAIN}{data.suffix}", canaries=out / f"{CANARIES}{data.suffix}", count=count
    )
    numbered = made if text else [[str(i), *row] for i, row in enumerate(made)]
    _write(files.train, head, trained, text)
    _write(files.canaries, [CANARY, *head] if head else [], numbered, text)
    _keep(out, coins, files)
    return files


@dataclass(frozen=True, kw_only=True)
class PlantedScores:
    """A signal of every canary, and the coins: what `audit_scores` takes."""

    scores: Reals = field(repr=False)
    members: NDArray[np.int64] = field(repr=False)
    what: str


def planted_scores(folder: Path, file: Path, signal: str | None = None) -> PlantedScores:
    """Join the scores of a folder's canaries to its coins, by their numbers.

    Args:
        file: .csv, .parquet or .npz with a column `canary`, and those of a signal.
        signal: which, where the columns make more than one.

    Raises: EvidenceError for coins that were changed, and for canaries without a score or with
        two; DataError for a file that cannot be read.
    """
    plan = read_evidence(folder / PLAN)
    public = read_evidence(folder / COMMITMENT)
    if public.get("commitment") != _commitment(plan):
        raise EvidenceError("the coins are not those that were committed to", where=str(folder))
    coins = np.array(plan["coins"], dtype=np.int64)
    check_coins(coins.tolist())
    columns = read_columns(file, (CANARY,))
    made = signal_for(columns.keys() - {CANARY}, signal)
    try:
        ids = np.array([int(value) for value in columns[CANARY]])
    except ValueError as error:
        raise DataError("a canary's number is a whole one", where=f"{file}, {CANARY}") from error
    if sorted(ids.tolist()) != list(range(len(coins))):
        raise EvidenceError(
            "every canary needs one score, those left out of training too",
            where=str(file),
            got=f"{len(ids)} scores",
            expected=f"one for each of {len(coins)} canaries",
        )
    return PlantedScores(scores=made.of(columns), members=coins[ids], what=made.what)


def _mislabelled(
    data: Path, count: int, target: str | None, draw: secrets.SystemRandom
) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Header, the records that stay, and the canaries of a table."""
    with data.open(newline="", encoding="utf-8-sig") as file:
        head, *rows = list(csv.reader(file))
    if target is None or head.count(target) != 1:
        raise DataError("name the column of the labels", where=str(data), got=target)
    place, labels = head.index(target), sorted({row[head.index(target)] for row in rows})
    if len(labels) < 2:
        raise DataError("a wrong label needs two labels or more", where=f"{data}, {target}")
    if count > len(rows) // 2:
        raise DataError(
            "too many canaries: what trains would be another data set",
            where="canaries",
            got=count,
            expected=f"at most half of {len(rows)} records",
        )
    chosen = sorted(draw.sample(range(len(rows)), count))
    made = []
    for i in chosen:
        row = list(rows[i])
        row[place] = draw.choice([label for label in labels if label != row[place]])
        made.append(row)
    gone = set(chosen)
    return head, [row for i, row in enumerate(rows) if i not in gone], made


def _sentence(draw: secrets.SystemRandom) -> str:
    number = "".join(str(draw.randrange(10)) for _ in range(DIGITS))
    return SENTENCE.format(name=draw.choice(NAMES), number=number)


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]], text: bool) -> None:
    """A table with its header line, or a text with a record a line; its owner's alone."""
    if text:
        write_private(path, "".join(f"{row[0]}\n" for row in rows).encode())
        return
    lines = io.StringIO(newline="")
    csv.writer(lines, lineterminator="\n").writerows([head, *rows])
    write_private(path, lines.getvalue().encode())


def _keep(out: Path, coins: Sequence[int], files: PlantedCanaries) -> None:
    """The coins with a key and keyed digests of both files, and the commitment to all of it."""
    key = secrets.token_bytes(32)
    plan = {
        "coins": list(coins),
        "key": key.hex(),
        "nonce": secrets.token_hex(32),
        **{
            path.stem: hmac.digest(key, path.read_bytes(), hashlib.sha256).hex()
            for path in (files.train, files.canaries)
        },
    }
    write_private(out / PLAN, json.dumps(plan).encode())
    note = "SHA-256(nonce || plan): publish it before training; it reveals nothing."
    public = json.dumps({"commitment": _commitment(plan), "note": note}, indent=1)
    (out / COMMITMENT).write_text(public + "\n")


def _commitment(plan: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in plan.items() if name != "nonce"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{plan.get('nonce')}{canonical}".encode()).hexdigest()
