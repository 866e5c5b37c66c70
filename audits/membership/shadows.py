"""Shadow models: the run's own recipe on fair halves of a pool, by worker processes, cached.

Shadows come in pairs: a random half of the pool goes into the first of a pair, the other half into
the second. So no shadow has more records than declared, and each record is in exactly half of
them. The coins that say so are drawn before the first shadow trains. Cached are the coins and
every shadow's margins, no weights; all of it lies in the run's `private/shadows/`, for its owner
only.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import hmac
import io
import json
import secrets
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dpigu.audits.canaries import data_fingerprint
from dpigu.audits.evidence import write_private
from dpigu.audits.external import read_arrays
from dpigu.audits.membership.attacks import Bools
from dpigu.audits.scores import SCORES, scores_of
from dpigu.audits.statistics import Reals
from dpigu.audits.workers import Workers, spread
from dpigu.dpcore import DataError, RunError
from dpigu.dpcore.randomness import system_words
from dpigu.trainers import (
    Data,
    DataSpec,
    Recipe,
    Tensors,
    build_model,
    recipe_from_file,
    train,
)
from dpigu.trainers.progress import Progress
from dpigu.trainers.runs import RunFolder
from numpy.typing import NDArray
from torch import nn

FOLDER, COINS, LOG = "shadows", "coins.npz", "workers.log"
LEAST = 4  # two shadows on each side of every record, for a variance
AGAIN = "Delete this folder, so that they are trained anew."


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """All that a worker needs.

    Args:
        folder: the cache. recipe: the run's own. spec: its data's declared constants.
        x, y: the pool's records and labels, as plain arrays.
        coins_SN: who trains which. tags: what binds each cached file to all of this.
        module: the untrained module, where it has no name to build it by.
    """

    folder: Path
    recipe: Recipe
    spec: DataSpec
    x: NDArray[np.generic] = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)
    coins_SN: Bools = field(repr=False)
    tags: Sequence[str] = field(repr=False)
    module: nn.Module | None = None

    def path(self, shadow: int) -> Path:
        """Where a shadow's margins are."""
        return self.folder / f"shadow-{shadow:04d}.npz"

    def missing(self) -> list[int]:
        """The shadows that are still to train."""
        return [s for s in range(len(self.tags)) if not self.path(s).is_file()]

    def margins(self, shadow: int) -> Reals:
        """A trained shadow's margin of every record of the pool.

        Raises: RunError for a file of another recipe, other data or other coins.
        """
        path = self.path(shadow)
        stored = read_arrays(path, ("margins", "tag"))
        if str(stored["tag"]) != self.tags[shadow] or stored["margins"].shape != self.y.shape:
            raise RunError(
                "this shadow model is of another recipe, other data or other coins",
                where=str(path),
                remedy="Delete it, so that it is trained anew.",
            )
        return np.asarray(stored["margins"], dtype=np.float64)

    def keep(self, shadow: int, margins_N: Reals) -> None:
        """Put a trained shadow's margins away, whole or not at all.

        Raises: RunError where they are no numbers.
        """
        if not np.isfinite(margins_N).all():
            raise RunError(
                "a shadow model gives no finite margins",
                where=str(self.path(shadow)),
                remedy="Take a recipe whose training does not diverge.",
            )
        _write(self.path(shadow), margins=margins_N, tag=np.array(self.tags[shadow]))


def check_shadows(shadows: int) -> None:
    """Refuse a number of shadow models that no attack can use.

    Raises: DataError unless it is 0, or even and 4 or more.
    """
    if shadows and (shadows < LEAST or shadows % 2):
        raise DataError(
            "shadow models come in pairs, at least two of them",
            where="shadows",
            got=shadows,
            expected="0, 4, 6, 8 or more",
        )


def shadow_table(
    run: RunFolder,
    pool: Data,
    shadows: int,
    *,
    workers: Workers = 1,
    module: nn.Module | None = None,
    progress: bool = False,
) -> tuple[Reals, Bools]:
    """Margins of every record of a pool by each shadow, and who trained which; both S × N.

    Trains what the cache lacks. An interrupt or a failure leaves the finished shadows there.

    Args:
        pool: its training split is what the halves are drawn from.
        shadows: S, even; the first S of the cache where it holds more.
        workers: processes, one torch thread each; or `"ray"`, a cluster.
        module: the untrained module, where the run's has no name; it is not changed.

    Raises: DataError for an odd or too small S; RunError for a cache of another recipe or other
        data, or a shadow that cannot be trained.
    """
    check_shadows(shadows)
    job = _job(run, pool, shadows, module)
    missing = job.missing()
    there = shadows - len(missing)
    work = spread(partial(train_shadow, job), missing, workers, job.folder / LOG)
    with Progress(shadows, show=progress and bool(missing)) as bar, closing(work) as finished:
        bar.advance(there)
        for count, (shadow, margins_N) in enumerate(finished, start=there + 1):
            job.keep(shadow, margins_N)
            bar.advance(count)
    return np.stack([job.margins(s) for s in range(shadows)]), job.coins_SN


def train_shadow(job: Job, shadow: int) -> Reals:
    """One shadow by the run's recipe on its half of the pool; its margin of every record.

    The declared number of records, the rate and the divisor stay the run's: a record joins as
    often, and weighs as much, as in the run. Noise and sampling are fresh.
    """
    recipe, in_N = job.recipe, torch.from_numpy(job.coins_SN[shadow])
    x, y = torch.from_numpy(job.x), torch.from_numpy(job.y)
    model = copy.deepcopy(job.module)
    if model is None:
        model = build_model(recipe.model_for(job.spec), job.spec, recipe.settings.seed)
    out = ~in_N  # one of them is held out, and its accuracy goes nowhere
    half = Data(job.spec, Tensors(x[in_N], y[in_N]), Tensors(x[out][:1], y[out][:1]))
    settings = dataclasses.replace(recipe.settings, evaluations=1, diagnostics=False)
    trained = train(recipe.plan, half, model, settings, progress=False).model.cpu()
    return np.asarray(scores_of(SCORES["margin"], trained, x, y).numpy(), dtype=np.float64)


def _job(run: RunFolder, pool: Data, shadows: int, module: nn.Module | None) -> Job:
    """The job, with as many coins as it needs: those of the cache first, then fresh ones."""
    folder = run.private / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path, n = folder / COINS, len(pool.train_y)
    key, pairs_PN = secrets.token_bytes(32), np.zeros((0, n), dtype=bool)
    stored: dict[str, NDArray[Any]] = {}
    if path.is_file():
        stored = read_arrays(path, ("key", "of", "pairs"))
        key = bytes.fromhex(str(stored["key"]))
    of = _identity(key, run, pool)
    if stored:
        if str(stored["of"]) != of:
            raise RunError(
                "the shadow models here are of another recipe or other data",
                where=str(folder),
                remedy=AGAIN,
            )
        pairs_PN = np.unpackbits(stored["pairs"], axis=1, count=n).astype(bool)
    if (fresh := shadows // 2 - len(pairs_PN)) > 0:
        order_PN = np.argsort(system_words(fresh * n).reshape(fresh, n), axis=1)
        pairs_PN = np.concatenate([pairs_PN, order_PN < n // 2])
        packed = np.packbits(pairs_PN, axis=1)
        _write(path, key=np.array(key.hex()), of=np.array(of), pairs=packed)
    coins_SN = np.stack([pairs_PN, ~pairs_PN], axis=1).reshape(-1, n)[:shadows]
    tags = [_mac(key, f"{of}\0{s}\0".encode() + row.tobytes()) for s, row in enumerate(coins_SN)]
    return Job(
        folder=folder,
        recipe=recipe_from_file(run.public / "config.toml"),
        spec=pool.spec,
        x=pool.train_x.cpu().numpy(),
        y=pool.train_y.cpu().numpy(),
        coins_SN=coins_SN,
        tags=tags,
        module=module,
    )


def _identity(key: bytes, run: RunFolder, pool: Data) -> str:
    """HMAC-SHA256 of the run's configuration and of the pool."""
    configured = json.dumps(run.configuration(), sort_keys=True)
    return _mac(key, f"{data_fingerprint(key, pool)}\0{configured}".encode())


def _mac(key: bytes, content: bytes) -> str:
    return hmac.digest(key, content, hashlib.sha256).hex()


def _write(path: Path, **arrays: NDArray[Any]) -> None:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    write_private(path, file.getvalue())
