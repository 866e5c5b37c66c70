"""Members against non-members: how well known attacks tell who trained a run. Estimates only.

No coin decided who is a member here, so nothing of this reaches a verdict.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dpigu.audits.canaries import KINDS, PLAN, load_plan
from dpigu.audits.membership.attacks import ATTACKS, Bools
from dpigu.audits.membership.shadows import check_shadows, shadow_table
from dpigu.audits.report import estimated
from dpigu.audits.report.membership import strongest
from dpigu.audits.scores import SCORES, scores_of
from dpigu.audits.statistics import Reals
from dpigu.audits.workers import Workers
from dpigu.dpcore import RunError
from dpigu.trainers import Data, Tensors, load_run
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.folder import COMMITMENT
from dpigu.trainers.runs.load import load_run_data
from dpigu.trainers.tasks import CLASSIFICATION
from torch import nn

ASSUMPTIONS = (
    "Members and held-out records are draws of one distribution: any other difference between the "
    "two would look like membership.",
    "The run was trained from the very data given here.",
)
WITH_SHADOWS = (
    "The attacker knows the recipe, and has shadow models of it on halves of these very records.",
)
NOTE = (
    "Estimates: they decide nothing, as no coin chose the members. They say what these attacks "
    "find; a better attack may find more. Each interval is by itself and takes the records for "
    "independent."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Membership:
    """Every attack's scores of members and non-members of a run.

    Args:
        scores: of the pool's records, by attack, higher for "member".
        member_N: who trained the run.
        shadows: how many shadow models there were; without any, the loss stands alone.
        confidence: of each interval.
    """

    scores: Mapping[str, Reals] = field(repr=False)
    member_N: Bools = field(repr=False)
    shadows: int
    confidence: float = 0.95

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`: the report's `membership`."""
        in_N = self.member_N
        attacks = [
            {
                "name": name,
                "title": ATTACKS[name].title,
                "asks": ATTACKS[name].asks,
                **estimated(score_N[in_N], score_N[~in_N], self.confidence),
            }
            for name, score_N in self.scores.items()
        ]
        return {
            "sentence": _sentence(attacks),
            "note": NOTE,
            "assumptions": [*ASSUMPTIONS, *(WITH_SHADOWS if self.shadows else ())],
            "members": int(in_N.sum()),
            "non_members": int((~in_N).sum()),
            "shadows": self.shadows,
            "confidence": self.confidence,
            "attacks": attacks,
        }


def estimate_membership(
    run_folder: Path | str,
    shadows: int,
    *,
    workers: Workers = 1,
    data: Data | None = None,
    data_dir: Path | None = None,
    model: nn.Module | None = None,
    trust_code: bool = False,
    progress: bool = False,
) -> Membership:
    """Attack a finished run by loss, LiRA and RMIA: its training records against the held-out ones.

    Canaries are left out, and so are the records that they stand on: coins judge these. Shadow
    models are trained by the run's recipe with the cross-entropy loss, and cached in its
    `private/shadows/`; an interrupted call continues where it stopped.

    Args:
        run_folder: a finished run.
        shadows: 0, or even and 4 or more. 0 leaves the loss alone.
        workers: processes that train, one torch thread each; or `"ray"`, a cluster.
        data, data_dir, model, trust_code: as `audits.audit_model`.
        progress: show a progress bar on standard error.

    Raises: EvidenceError where the run's canaries cannot be told from its other records: a plan
        that was changed, or other data than it was made for. DataError, RunError: as
        `shadows.shadow_table`, and for a model that gives no finite margins.
    """
    check_shadows(shadows)
    run = RunFolder.existing(Path(run_folder))
    if data is None:
        data = load_run_data(run, data_dir, trust_code=trust_code)
    if data.spec.task != CLASSIFICATION:
        raise RunError(
            "these attacks read the margin between classes, and this run is no classification",
            where=str(run.path),
            got=f"the task {data.spec.task}",
            remedy="Audit it by canaries of the kind 'gradient'.",
        )
    untrained = copy.deepcopy(model)  # the audited weights are loaded into the one that is given
    pool, member_N = _pool(run, data)
    trained = load_run(run.path, model, trust_code=trust_code).model
    phi_N = scores_of(SCORES["margin"], trained, pool.train_x, pool.train_y).numpy()
    if not np.isfinite(phi_N).all():
        raise RunError(
            "the model gives no finite margins, so no attack can be run on it",
            where=str(run.path),
            remedy="Audit a model whose weights are finite.",
        )
    phi_SN, in_SN = np.zeros((0, len(phi_N))), np.zeros((0, len(phi_N)), dtype=bool)
    if shadows:
        phi_SN, in_SN = shadow_table(
            run, pool, shadows, workers=workers, module=untrained, progress=progress
        )
    scores = {
        name: attack.score(phi_N, phi_SN, in_SN)
        for name, attack in ATTACKS.items()
        if shadows or not attack.shadows
    }
    return Membership(scores=scores, member_N=member_N, shadows=shadows)


def _pool(run: RunFolder, data: Data) -> tuple[Data, Bools]:
    """Members, then non-members, as a training split, and which is which.

    Of more held-out records than members only as many are taken, evenly spread over their order:
    so a half of the pool is never larger than what the run trained on.
    """
    stays_N = torch.ones(len(data.train_y), dtype=torch.bool)
    if (run.private / PLAN).exists() or (run.public / COMMITMENT).exists():
        plan = load_plan(run)
        plan.check(data)
        if KINDS[plan.kind].from_data:
            stays_N[list(plan.ids)] = False
    members, held = int(stays_N.sum()), len(data.test_y)
    if not members:
        raise RunError("every record is a canary's: no member is left", where=str(run.path))
    spread = torch.linspace(0, held - 1, min(held, members), dtype=torch.float64).round().long()
    x_N = torch.cat([data.train_x[stays_N], data.test_x[spread]])
    y_N = torch.cat([data.train_y[stays_N], data.test_y[spread]])
    pool = dataclasses.replace(data, train=Tensors(x_N, y_N))
    return pool, np.arange(len(pool.train_y)) < members


def _sentence(attacks: list[dict[str, Any]]) -> str:
    """What the strongest attack does, over all records."""
    best = strongest(attacks)
    among = f"the strongest of these attacks ({best['title']})" if attacks[1:] else "this attack"
    area, rare = best["auc"], best["tpr"][0]
    if area["low"] <= 0.5:
        verdict = "that is not told from blind guessing, which is right in 50%."
    else:
        verdict = f"blind guessing is right in 50%. The interval is {_percents(area)}."
    return (
        f"Shown a record that trained and one that did not, {among} says which is which in "
        f"{area['value']:.1%} of cases; {verdict} Where it may accuse one in a thousand of those "
        f"who were not in, it finds {rare['value']:.2%} of those who were."
    )


def _percents(estimate: Mapping[str, float]) -> str:
    return f"{estimate['low']:.1%} to {estimate['high']:.1%}"
