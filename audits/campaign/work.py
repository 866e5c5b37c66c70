"""A campaign's folder: its coins, its trials' scores, and what a worker does."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import hmac
import io
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dpigu.audits.campaign.target import Target
from dpigu.audits.canaries import data_fingerprint
from dpigu.audits.canaries.coins import flip
from dpigu.audits.evidence import EvidenceError, read_evidence, write_private
from dpigu.audits.external import read_arrays
from dpigu.audits.external.foreign import loaded
from dpigu.audits.scores import SCORES, scores_of
from dpigu.audits.statistics import Reals
from dpigu.dpcore import CalibratedPlan, DataError, Plan
from dpigu.trainers import Data, Settings, Tensors, train
from numpy.typing import NDArray
from safetensors.torch import save

COINS, START, LOG = "coins.npz", "start.safetensors", "workers.log"


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """All that a worker needs.

    Args:
        folder: where scores go. plan, settings: with the noise fixed.
        data: what trains in every trial, one record less than declared or fewer.
        target: the record and the initial model.
        coins: one a trial, 1 where the target trains. key: binds each score to all of this.
    """

    folder: Path
    plan: Plan
    settings: Settings
    data: Data = field(repr=False)
    target: Target = field(repr=False)
    coins: tuple[int, ...] = field(repr=False)
    key: bytes = field(repr=False)
    of: str

    def path(self, trial: int) -> Path:
        """Where a trial's score is."""
        return self.folder / f"trial-{trial:05d}.json"

    def missing(self) -> list[int]:
        """The trials that are still to run."""
        return [i for i in range(len(self.coins)) if not self.path(i).is_file()]

    def score(self, trial: int) -> float:
        """Train one model, with the target by the trial's coin; what a worker does."""
        return self.trained_score(bool(self.coins[trial]))

    def keep(self, trial: int, score: float) -> None:
        """Put a trial's score away, whole or not at all.

        Raises: DataError where it is no number.
        """
        if not np.isfinite(score):
            raise DataError("a trained model gives no finite score", where=f"trial {trial}")
        kept = {"score": score, "tag": self._tag(trial)}
        write_private(self.path(trial), json.dumps(kept).encode())

    def trained_score(self, inside: bool) -> float:
        """The margin of the target by a fresh model: by the final weights alone."""
        data, target = self.data, self.target
        if inside:
            x = torch.cat([data.train_x, target.x[None]])
            y = torch.cat([data.train_y, data.train_y.new_tensor([target.label])])
            data = dataclasses.replace(data, train=Tensors(x, y))
        run = train(self.plan, data, copy.deepcopy(target.model), self.settings, progress=False)
        label = data.train_y.new_tensor([target.label])
        return float(scores_of(SCORES["margin"], run.model.cpu(), target.x[None], label)[0])

    def scores(self) -> tuple[Reals, NDArray[np.int64]]:
        """Scores and coins of the trials that are done, up to the first that is not.

        Raises: EvidenceError for a score of another recipe, other data or another coin.
        """
        found = []
        for trial in range(len(self.coins)):
            if not self.path(trial).is_file():
                break
            kept = read_evidence(self.path(trial))
            if kept.get("tag") != self._tag(trial):
                raise EvidenceError(
                    "this score is of another recipe, other data or another coin",
                    where=str(self.path(trial)),
                    remedy="Delete it, so that the trial is run anew.",
                )
            found.append(float(kept["score"]))
        return np.array(found), np.array(self.coins[: len(found)], dtype=np.int64)

    def _tag(self, trial: int) -> str:
        content = f"{self.of}\0{trial}\0{self.coins[trial]}".encode()
        return hmac.digest(self.key, content, hashlib.sha256).hex()


def open_job(
    folder: Path, trials: int, plan: CalibratedPlan, settings: Settings, data: Data, target: Target
) -> Job:
    """The job of a folder: its coins first, then fresh ones; the noise is the calibrated plan's.

    The initial weights are those that the folder began with.

    Raises: EvidenceError where the folder is of another recipe, other data or another target.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, key = folder / COINS, secrets.token_bytes(32)
    coins: tuple[int, ...] = ()
    stored: dict[str, NDArray[Any]] = {}
    if path.is_file():
        stored = read_arrays(path, ("key", "of", "coins"))
        key, coins = bytes.fromhex(str(stored["key"])), tuple(stored["coins"].tolist())
    of = _identity(key, plan, settings, data, target)
    if stored and str(stored["of"]) != of:
        raise EvidenceError(
            "the campaign in this folder is of another recipe, other data or another target",
            where=str(folder),
            remedy="Take a new folder, or the options that it began with.",
        )
    start = folder / START
    if start.is_file():
        target = dataclasses.replace(target, model=loaded(copy.deepcopy(target.model), start))
    else:
        write_private(start, save(target.model.state_dict()))
    if trials > len(coins):
        coins = (*coins, *flip(trials - len(coins)))
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, key=key.hex(), of=of, coins=np.array(coins))
        write_private(path, file.getvalue())
    fixed = dataclasses.replace(
        settings, epsilon=None, noise_multiplier=1.0, evaluations=1, diagnostics=False, epochs=None
    )
    return Job(
        folder=folder,
        plan=Plan(plan.phases, plan.adjacency),
        settings=fixed,
        data=data,
        target=target,
        coins=coins[:trials],
        key=key,
        of=of,
    )


def _identity(
    key: bytes, plan: CalibratedPlan, settings: Settings, data: Data, target: Target
) -> str:
    """HMAC-SHA256 of plan, settings, data and the target's record."""
    digest = hmac.new(key, data_fingerprint(key, data).encode(), hashlib.sha256)
    digest.update(json.dumps(plan.to_dict(), sort_keys=True, default=str).encode())
    digest.update(repr(settings).encode())
    digest.update(repr((target.label, target.x.flatten().tolist())).encode())
    return digest.hexdigest()
