"""A campaign's folder: its coins, its trials' scores, and what a worker does."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import hmac
import io
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from dpigu.audits.campaign.gradient_target import GradientTargets
from dpigu.audits.campaign.guesses import Coins
from dpigu.audits.campaign.target import Targets
from dpigu.audits.canaries import data_fingerprint
from dpigu.audits.canaries.coins import flip
from dpigu.audits.evidence import EvidenceError, write_private
from dpigu.audits.external import read_arrays
from dpigu.audits.external.foreign import loaded
from dpigu.audits.statistics import Reals
from dpigu.dpcore import CalibratedPlan, Plan
from dpigu.trainers import Data, Settings, train
from numpy.typing import NDArray
from safetensors.torch import save

COINS, START, SCORES, LOG = "coins.npz", "start.safetensors", "scores.jsonl", "workers.log"
LOCK = "lock"

AnyTargets: TypeAlias = Targets | GradientTargets

Outcome: TypeAlias = list[float] | str
"""What a trial ended with: its K scores, or the words of the error that stopped its training."""
UNDECIDED = 0.0
"""The score of a target where a trial ended without a finite one: the margin of even odds.

It is fixed beforehand. So whatever becomes of a training, its trial counts, with the coins that it
had: what is guessed from it is post-processing of what the mechanism did.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """All that a worker needs.

    Args:
        folder: where scores go. plan, settings: with the noise fixed.
        data: what trains in every trial, so many records less than declared as there are targets.
        targets: K of them, and the initial model.
        coins_NK: 1 where a target trains. key: binds each score to all of this.
    """

    folder: Path
    plan: Plan
    settings: Settings
    data: Data = field(repr=False)
    targets: AnyTargets = field(repr=False)
    coins_NK: Coins = field(repr=False)
    key: bytes = field(repr=False)
    of: str

    def score(self, trial: int) -> Outcome:
        """Train one model, with the targets by the trial's coins; what a worker does."""
        try:
            return self.trained_scores(self.coins_NK[trial] == 1)
        except Exception as error:  # whatever stopped it may depend on the coins: it counts
            return f"{type(error).__name__}: {error}"

    def keep(self, trial: int, outcome: Outcome) -> None:
        """Put a trial's outcome away: a line, and one that is cut short counts for nothing."""
        kept = {"trial": trial, "scores": outcome, "tag": self._tag(trial)}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(os.open(self.folder / SCORES, flags, 0o600), "a") as file:
            file.write("\n" + json.dumps(kept))

    def trained_scores(self, inside_K: NDArray[np.bool_]) -> list[float]:
        """The scores of all targets by a fresh model: by the final weights alone."""
        sampler = self.settings.sampler(self.data.spec.records)
        data, observer = self.targets.planted(self.data, inside_K, sampler)
        model = copy.deepcopy(self.targets.model)
        run = train(self.plan, data, model, self.settings, observer=observer, progress=False)
        return [float(score) for score in self.targets.scores(run.model.cpu())]

    def done(self) -> dict[int, Outcome]:
        """The outcome of every trial that is done; of two lines the first, as no trial has two.

        Raises: EvidenceError for a score of another recipe, other data or another coin.
        """
        path = self.folder / SCORES
        found: dict[int, Outcome] = {}
        lines = path.read_text().split("\n") if path.is_file() else []
        for line in lines:
            if not line.endswith("}"):
                continue
            kept = json.loads(line)
            trial = int(kept["trial"])
            if trial >= len(self.coins_NK):
                continue
            if kept["tag"] != self._tag(trial):
                raise EvidenceError(
                    "this score is of another recipe, other data or another coin",
                    where=f"{path}, trial {trial}",
                    remedy="Delete its line, so that the trial is run anew.",
                )
            found.setdefault(trial, kept["scores"])
        return found

    def first(self, done: Mapping[int, Outcome]) -> tuple[Reals, Coins]:
        """Scores and coins of the trials that are done, up to the first that is not.

        A score that is not finite, or that no training gave, is `UNDECIDED`.
        """
        trials, targets = self.coins_NK.shape
        count = next((i for i in range(trials) if i not in done), trials)
        outcomes, none = [done[i] for i in range(count)], [UNDECIDED] * targets
        scores_NK = np.array([none if isinstance(o, str) else o for o in outcomes])
        return np.where(np.isfinite(scores_NK), scores_NK, UNDECIDED), self.coins_NK[:count]

    def _tag(self, trial: int) -> str:
        content = f"{self.of}\0{trial}\0{self.coins_NK[trial].tolist()}".encode()
        return hmac.digest(self.key, content, hashlib.sha256).hex()


def open_job(
    folder: Path,
    trials: int,
    plan: CalibratedPlan,
    settings: Settings,
    data: Data,
    targets: AnyTargets,
) -> Job:
    """The job of a folder that is there: its coins first, then fresh ones.

    The noise is the calibrated plan's. The initial weights are those that the folder began with.

    Raises: EvidenceError where the folder is of another recipe, other data or other targets.
    """
    path, key, count = folder / COINS, secrets.token_bytes(32), targets.count
    coins_NK = np.zeros((0, count), dtype=np.int64)
    stored: dict[str, NDArray[Any]] = {}
    if path.is_file():
        stored = read_arrays(path, ("key", "of", "coins"))
        key, coins_NK = bytes.fromhex(str(stored["key"])), stored["coins"]
    of = _identity(key, plan, settings, data, targets)
    if stored and str(stored["of"]) != of:
        raise EvidenceError(
            "the campaign in this folder is of another recipe, other data or another target",
            where=str(folder),
            remedy="Take a new folder, or the options that it began with.",
        )
    start = folder / START
    if start.is_file():
        targets = dataclasses.replace(targets, model=loaded(copy.deepcopy(targets.model), start))
    else:
        write_private(start, save(targets.model.state_dict()))
    if trials > len(coins_NK):
        fresh = np.array(flip((trials - len(coins_NK)) * count), dtype=np.int64)
        coins_NK = np.concatenate([coins_NK, fresh.reshape(-1, count)])
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, key=key.hex(), of=of, coins=coins_NK)
        write_private(path, file.getvalue())
    fixed = dataclasses.replace(
        settings, epsilon=None, noise_multiplier=1.0, evaluations=1, diagnostics=False, epochs=None
    )
    return Job(
        folder=folder,
        plan=Plan(plan.phases, plan.adjacency),
        settings=fixed,
        data=data,
        targets=targets,
        coins_NK=coins_NK[:trials],
        key=key,
        of=of,
    )


def _identity(
    key: bytes, plan: CalibratedPlan, settings: Settings, data: Data, targets: AnyTargets
) -> str:
    """HMAC-SHA256 of plan, settings, data and targets."""
    digest = hmac.new(key, data_fingerprint(key, data).encode(), hashlib.sha256)
    digest.update(json.dumps(plan.to_dict(), sort_keys=True, default=str).encode())
    digest.update(repr(settings).encode())
    digest.update(targets.identity().encode())
    return digest.hexdigest()
