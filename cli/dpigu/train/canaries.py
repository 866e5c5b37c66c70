"""The canaries of `dpigu train`: planned for a new run, and planted in it and after a resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpigu.audits.canaries.gradients import GradientCanaries
    from dpigu.audits.canaries.planting import CanaryPlan
    from dpigu.dpcore import Plan, Ranks
    from dpigu.trainers import Data
    from dpigu.trainers.runs import RunFolder


def planned_canaries(ranks: Ranks, data: Data, count: int | None, kind: str) -> CanaryPlan | None:
    """A plan of canaries with fresh coins, the same on all ranks, if any are wanted."""
    if count is None:
        return None
    from dpigu.audits.canaries.planting import plan_canaries

    return ranks.agreed(lambda: plan_canaries(data, count, kind))


def planted(
    data: Data, planned: CanaryPlan | None, plan: Plan
) -> tuple[Data, GradientCanaries | None]:
    """The data with canaries planted, and what plants those that are no data."""
    if planned is None:
        return data, None
    from dpigu.audits.canaries.gradients import GradientCanaries

    return planned.apply(data), GradientCanaries(planned, plan) if planned.white_box else None


def with_planned_canaries(
    ranks: Ranks, data: Data, folder: RunFolder, plan: Plan
) -> tuple[Data, GradientCanaries | None]:
    """The data as the run saw it before: with the canaries of its plan, if it has one."""
    from dpigu.audits.canaries.planting import PLAN, load_plan
    from dpigu.trainers.runs.folder import COMMITMENT

    def found() -> CanaryPlan | None:
        there = (folder.private / PLAN).exists() or (folder.public / COMMITMENT).exists()
        return load_plan(folder) if there else None

    data, observer = planted(data, ranks.agreed(found), plan)
    if observer is not None and ranks.rank == 0:
        observer.begin(folder)
    return data, observer
